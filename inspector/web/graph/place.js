// Where everything stands in the graph. A place is given once and kept for as long as
// the picture lives: whatever an update brings, what is there stays where it is.
// Distances are in radii of a node's ground.

const GOLDEN = Math.PI * (3 - Math.sqrt(5));

/** Seats, numbered from 0: each key has one, and keeps it. */
export class Seats {
  #of = new Map(); // key → seat, also of those who are gone
  #gone = new Set(); // oldest first

  /** Gives each of keys a seat. One who comes back finds its own, unless it was needed. */
  seat(keys) {
    const here = new Set(keys);
    for (const key of this.#of.keys()) {
      if (!here.has(key)) this.#gone.add(key);
    }
    for (const key of here) this.#gone.delete(key);
    for (const key of [...here].sort()) {
      if (this.#of.has(key)) continue;
      const [left] = this.#gone;
      if (left === undefined) this.#of.set(key, this.#of.size);
      else {
        this.#of.set(key, this.#of.get(left));
        this.#of.delete(left);
        this.#gone.delete(left);
      }
    }
  }

  of(key) {
    return this.#of.get(key);
  }
}

/** The nth place of a sunflower: evenly far from all others, and the same however many there are. */
function sunflower(n, apart, from) {
  const r = apart * Math.sqrt(n + from);
  return { x: r * Math.cos(n * GOLDEN), y: r * Math.sin(n * GOLDEN) };
}

const APART = 1.45; // of hubs
const TYPES_APART = 1.15;

/** The places of a cluster: types in the middle, nodes and gates around them. */
export class Places {
  #hubs = new Seats();
  #types = new Seats();
  #around = new Seats(); // types, around each node
  #first = 0; // seat of the sunflower that a hub may have: within is the middle
  #wide;

  /** wide: whether the window is wider than high. */
  constructor(wide) {
    this.#wide = wide;
    this.#types.seat(["client"]); // the very middle
  }

  /** Seats all that there is. Gates come first and so stand near the clients, in the middle. */
  seat(nodes, gates, types) {
    if (!this.#first) {
      const room = TYPES_APART * Math.sqrt(Math.max(6, types.length + 2)) + 1.5;
      this.#first = (room / APART) ** 2;
      this.#hubs.seat(gates.map((g) => `gate:${g}`));
    }
    this.#hubs.seat([...gates.map((g) => `gate:${g}`), ...nodes.map((n) => `node:${n}`)]);
    this.#types.seat(["client", "program", ...types]);
    this.#around.seat(types);
  }

  hub(key) {
    const { x, y } = sunflower(this.#hubs.of(key), APART, this.#first);
    return this.#wide ? { x: x * 1.35, y } : { x, y: y * 1.35 };
  }

  type(name) {
    return sunflower(this.#types.of(name), TYPES_APART, name === "client" ? 0 : 0.6);
  }

  /** Where a type stands around a node, and how large it may be: 6 in the first ring, 12 in the second. */
  around(node, type, types) {
    let seat = this.#around.of(type);
    let rings = 1;
    for (let room = 6; room < types; room += 6 * rings) rings++;
    const cell = 1 / (rings + 0.55);
    let ring = 1;
    for (; seat >= 6 * ring; ring++) seat -= 6 * ring;
    const at = this.hub(`node:${node}`);
    const angle = (seat / (6 * ring)) * 2 * Math.PI + Math.PI / 2;
    const r = Math.min(ring, rings) * cell;
    return { x: at.x + r * Math.cos(angle), y: at.y + r * Math.sin(angle), room: cell * 0.47 };
  }

  /** The extent of hubs that are there, as Sigma.js wants it. */
  extent(keys) {
    const box = { x: [-2, 2], y: [-2, 2] };
    for (const { x, y } of keys.map((k) => this.hub(k))) {
      box.x = [Math.min(box.x[0], x - 1.1), Math.max(box.x[1], x + 1.1)];
      box.y = [Math.min(box.y[0], y - 1.1), Math.max(box.y[1], y + 1.1)];
    }
    return box;
  }
}

/** Where the nth of many objects stands in its bubble, and how large it is. */
export function inside(bubble, n, many) {
  let room = 7;
  while (room < many) room *= 2; // a few more change nothing
  const { x, y } = sunflower(n, (0.86 * bubble.size) / Math.sqrt(room), 0.5);
  return { x: bubble.x + x, y: bubble.y + y, size: Math.min((0.7 * bubble.size) / Math.sqrt(room), bubble.size / 5) };
}
