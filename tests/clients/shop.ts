/** A customer and an operator of the running suite, by the types that openapi-typescript made of its documents. */

import { randomUUID } from "node:crypto";

import createClient from "openapi-fetch";

import type { paths as Orders } from "./order-service.js";
import type { paths as Payments } from "./payment-service.js";
import type { paths as Products } from "./product-service.js";
import type { components as MonitorTypes, paths as Monitor } from "./saga-monitor.js";

const PATIENCE_MS = 30_000;

function client<Paths extends {}>(variable: string, user: string, roles: string) {
  const baseUrl = process.env[variable];
  if (baseUrl === undefined) throw new Error(`${variable} is not set`);
  return createClient<Paths>({ baseUrl, headers: { "X-User-Id": user, "X-Roles": roles } });
}

/** What was answered, which has to be a success. */
function answered<Data>(answer: { data?: Data; error?: unknown; response: Response }): Data {
  if (answer.data === undefined) throw new Error(`${answer.response.status} ${JSON.stringify(answer.error)}`);
  return answer.data;
}

function must(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

/** Services hear of each other's doings a moment later. */
async function eventually<Found>(what: string, ask: () => Promise<Found | undefined>): Promise<Found> {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    if (Date.now() > until) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const kim = `kim-${randomUUID()}`;
const productId = `mug-${randomUUID()}`;
const products = client<Products>("PRODUCT_SERVICE_URL", "boss", "admin");
const points = client<Payments>("PAYMENT_SERVICE_URL", kim, "customer");
const orders = client<Orders>("ORDER_SERVICE_URL", kim, "customer");
const monitor = client<Monitor>("SAGA_MONITOR_URL", "olga", "operator");

answered(await products.POST("/products", { body: { productId, name: "Mug", price: 12_000, stock: 10 } }));
answered(
  await points.POST("/points/charge", {
    params: { header: { "Idempotency-Key": randomUUID() } },
    body: { amount: 50_000 },
  }),
);

const taken = await eventually("order-service hears of the product", async () => {
  const answer = await orders.POST("/orders", {
    params: { header: { "Idempotency-Key": randomUUID() } },
    body: { lines: [{ productId, quantity: 2 }] },
  });
  if (answer.error?.code === "unknown-product") return undefined;
  return answered(answer);
});
const one = { path: { order_id: taken.orderId } };
const order = answered(await orders.GET("/orders/{order_id}", { params: { ...one, header: { Prefer: "wait=30" } } }));
must(order.status === "CONFIRMED" && order.total === 24_000, order);
const cancelled = answered(
  await orders.POST("/orders/{order_id}/cancel", { params: one, body: { reason: "too blue" } }),
);
must(cancelled.status === "CANCELLED" && cancelled.reason === "CUSTOMER", cancelled);

const wanted: MonitorTypes["schemas"]["State"] = "COMPENSATED";
const saga = await eventually("the saga is compensated", async () => {
  const answer = await monitor.GET("/api/sagas/{key}", { params: { path: { key: order.orderId } } });
  if (answer.response.status === 404) return undefined;
  const saga = answered(answer);
  return saga.state === wanted ? saga : undefined;
});
must(saga.pairs.every((pair) => pair.done === pair.undone), saga);
const sagas = answered(await monitor.GET("/api/sagas", { params: { query: { state: wanted, limit: 5 } } }));
must(sagas.items.length > 0, sagas);
const events = answered(await monitor.GET("/api/events", { params: { query: { traceId: order.traceId } } }));
must(events.items.some((step) => step.eventType === "order-cancelled"), events);
answered(await monitor.GET("/api/alarms", { params: { query: { kind: "dead-letter" } } }));
answered(await monitor.GET("/admin/audit", { params: { query: { action: "resume", result: "DONE" } } }));
