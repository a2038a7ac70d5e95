/** What the shop needs of Node.js: its own types would be one more package. */

declare const process: { env: Record<string, string | undefined> };

declare module "node:crypto" {
  export function randomUUID(): string;
}
