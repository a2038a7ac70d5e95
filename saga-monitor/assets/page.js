// What the page does by itself: keeps itself current while somebody looks and nobody writes, and copies ids.
// Everything else works without it.
"use strict";
(() => {
  // --- keeping current ---------------------------------------------------------------------------

  // A form that is being filled in, a text that is selected, a tab that nobody sees: nothing is changed then.
  const isWriting = () => {
    const at = document.activeElement;
    if (at && at.matches("main input, main select, main textarea")) return true;
    return [...document.querySelectorAll("main form[data-touched]")].length > 0;
  };
  const isSelecting = () => {
    const selection = document.getSelection();
    const region = selection && !selection.isCollapsed && selection.anchorNode;
    return Boolean(region && document.querySelector("main").contains(region));
  };
  const pauses = () => (document.hidden ? "hidden" : isWriting() ? "writing" : isSelecting() ? "selecting" : "");

  const state = () => document.getElementById("live-state");
  // What isn't current must not look so: the line is in sight wherever one has scrolled to.
  const say = (text, how = "") => {
    const at = state();
    if (at && at.textContent !== text) at.textContent = text;
    if (at) at.className = how;
  };
  const words = {
    hidden: "", writing: "Paused while you fill in the form.", selecting: "Paused while text is selected.",
  };
  const live = () => document.querySelector("[data-live]");

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!event.target.hasAttribute("data-live")) return;
    const why = pauses();
    if (why) { event.preventDefault(); say(words[why], words[why] && "paused"); }
  });
  // Somebody may have begun to write while the answer was on its way.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target && event.detail.target.hasAttribute("data-live") && pauses()) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSwap", () => say("Live"));
  const away = () => say("The monitor does not answer; what is shown is old. Trying again.", "away");
  document.addEventListener("htmx:sendError", away);
  document.addEventListener("htmx:timeout", away);
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    // The token is over, or the page is gone: the whole page says it.
    if (status === 401 || status === 403 || status === 404) location.reload(); else away();
  });
  document.addEventListener("input", (event) => {
    const form = event.target.closest("main form");
    if (form) form.toggleAttribute("data-touched", [...form.elements].some(isTouched));
  });
  const isTouched = (field) => {
    if (field.type === "checkbox") return field.checked !== field.defaultChecked;
    if (field.tagName === "SELECT") return [...field.options].some((one) => one.selected !== one.defaultSelected) && field.selectedIndex > 0;
    return "defaultValue" in field && field.value !== field.defaultValue;
  };

  // What somebody opened stays open, and what he wrote stays written, whatever the new page says.
  if (window.Idiomorph) {
    const isKept = (name, node) =>
      (name === "open" && node.nodeName === "DETAILS") ||
      // A hidden field is the server's: it says what a button is about.
      (name === "value" && node.nodeName === "INPUT" && node.type !== "hidden") ||
      name === "data-touched";
    window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !isKept(name, node);
    window.Idiomorph.defaults.ignoreActiveValue = true;
  }

  // --- small things ------------------------------------------------------------------------------

  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1200);
    } catch { /* a browser that doesn't let us: the id can still be selected */ }
  });
  // A form is sent once, however often somebody clicks.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "yes";
  });
  // Back in the history, it may be sent again.
  addEventListener("pageshow", () => document.querySelectorAll("[data-sent]").forEach((form) => delete form.dataset.sent));
  // "/" leads to the search, as in many tools.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) return;
    const find = document.querySelector(".find input");
    if (find) { event.preventDefault(); find.focus(); }
  });
  // On a narrow screen, the step that matters is in sight.
  const flow = document.querySelector(".flowbox");
  const now = flow && flow.querySelector(".stuck, .failing, .waiting, .partly");
  if (now) flow.scrollLeft = now.getBBox().x - flow.clientWidth / 2 + now.getBBox().width / 2;
  if (live()) say("Live");
})();
