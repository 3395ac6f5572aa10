import { confirm } from "./draw.js";

/** Says what an order will do, in numbers, and waits for a yes. */
export function confirmed(cluster, node, undo) {
  if (undo) return confirm(`Let ${node.address} take shards again?`, "The leader gives it its share back; running calls are not disturbed.", "Take it back");
  const others = cluster.scene.nodes.filter((n) => n.state === "ready" && n.address !== node.address).length;
  const where = others === 1 ? "1 other node" : `${others} other nodes`;
  return confirm(`Drain ${node.address}?`, [
    `Its ${node.held} shards move to ${where}, with their live objects. Callers wait some milliseconds while a shard moves, and notice nothing else.`,
    "Its process goes on. This can be taken back.",
  ], `Drain ${node.address}`);
}
