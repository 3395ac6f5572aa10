// Sigma.js on one canvas. Its own programs draw with WebGL, which is a graphics card's
// work: without one each frame of its layers costs more than all that is on them. A picture
// here has at most some thousand marks, and those a canvas draws by itself. Camera, mouse,
// touch, labels and the graph are Sigma.js's.

const CORE = 0.2; // of a ground: its node
const ANYTHING = () => 1; // all is well
const NO_WEBGL = new Proxy({}, { get: () => ANYTHING });

/** The class of such a Sigma. Marks have a key, x, y, size, form, color and fill; lines a width, a color, and both. */
export function flat(Sigma) {
  return class Flat extends Sigma {
    createWebGLContext(id) {
      Object.defineProperty(this.webGLContexts, id, { value: NO_WEBGL }); // not listed, and so not resized
      return NO_WEBGL;
    }

    /** Makes many changes of the graph one refresh: for each mark that is dropped there would be one of all others. */
    gather(change) {
      [this.gathering, this.gathered] = [true, false];
      try {
        change();
      } finally {
        this.gathering = false;
      }
      if (this.gathered) this.refresh({ schedule: true });
    }

    refresh(options) {
      if (!this.gathering) return super.refresh(options);
      this.gathered = true;
      return this;
    }

    clear() {
      this.emit("beforeClear");
      this.canvasContexts.labels.clearRect(0, 0, this.width, this.height);
      return this.emit("afterClear"), this;
    }

    /** The layer of outlines is touched only if there are some, or were. */
    renderHighlightedNodes() {
      const some = Boolean(this.hoveredNode) || this.highlightedNodes.size > 0;
      if (some || this.outlined) super.renderHighlightedNodes();
      this.outlined = some;
    }

    /** The topmost mark at a place; small ones are easier to meet than to see. */
    getNodeAtPosition({ x, y }) {
      const at = this.lens();
      const list = this.nodePrograms.mark.list;
      for (let i = list.length - 1; i >= 0; i--) {
        const mark = list[i];
        const [dx, dy] = [at.x(mark) - x, at.y(mark) - y];
        const r = at.size(mark);
        if (r >= LEAST && dx * dx + dy * dy <= Math.max(r, 4) ** 2 && this.graph.hasNode(mark.key)) return mark.key; // it may have gone since the last frame
      }
      return null;
    }

    getEdgeAtPoint(x, y) {
      const at = this.lens();
      const found = this.edgePrograms.line.list.findLast(({ line, from, to }) => {
        const [x1, y1, x2, y2] = [at.x(from), at.y(from), at.x(to), at.y(to)];
        const along = Math.min(1, Math.max(0, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / ((x2 - x1) ** 2 + (y2 - y1) ** 2 || 1)));
        return Math.hypot(x1 + along * (x2 - x1) - x, y1 + along * (y2 - y1) - y) <= Math.max(4, line.width);
      });
      return found && this.graph.hasEdge(found.line.key) ? found.line.key : null;
    }

    /** Where marks are on the screen now. */
    lens() {
      const origin = this.framedGraphToViewport({ x: 0, y: 0 });
      const one = this.framedGraphToViewport({ x: 1, y: 1 });
      const [ax, ay, scale] = [one.x - origin.x, one.y - origin.y, this.scaleSize(1)];
      return { x: (m) => origin.x + ax * m.x, y: (m) => origin.y + ay * m.y, size: (m) => m.size * scale, scale };
    }
  };
}

const LEAST = 0.6; // px of a radius: what is smaller is not drawn

/** The marks, and before them the lines. */
export class Marks {
  list = [];

  constructor(_gl, _frame, sigma) {
    this.sigma = sigma;
  }

  reallocate(many) {
    this.list.length = many;
  }

  process(_index, at, mark) {
    this.list[at] = mark;
  }

  render() {
    const pen = this.sigma.canvasContexts.labels;
    const at = this.sigma.lens();
    for (const line of this.sigma.edgePrograms.line.list) drawLine(pen, at, line);
    const { width, height } = this.sigma;
    let drawn = 0;
    for (const mark of this.list) {
      const [x, y, r] = [at.x(mark), at.y(mark), at.size(mark)];
      if (r < LEAST || x + r < 0 || y + r < 0 || x - r > width || y - r > height) continue;
      drawMark(pen, mark, x, y, r);
      drawn++;
    }
    this.drawn = drawn;
  }

  kill() {}
}

/** The lines. Marks draw them, to be above them. */
export class Lines {
  list = [];

  reallocate(many) {
    this.list.length = many;
  }

  process(_index, at, from, to, line) {
    this.list[at] = { from, to, line };
  }

  render() {}
  kill() {}
}

/** What is pointed at is not drawn again: a ground would cover what stands on it. */
export class Nothing {
  reallocate() {}
  process() {}
  render() {}
  kill() {}
}

function drawMark(pen, { form, color, fill }, x, y, r) {
  if (r < 1.5) {
    pen.fillStyle = color;
    pen.fillRect(x - r, y - r, 2 * r, 2 * r);
    return;
  }
  const thin = Math.min(1.5, r * 0.3);
  const disc = (radius) => { pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); };
  pen.fillStyle = form === "disc" ? color : fill;
  pen.strokeStyle = color;
  pen.lineWidth = thin;
  if (form === "square") {
    const half = r / 1.15;
    pen.fillRect(x - half, y - half, 2 * half, 2 * half);
    pen.strokeRect(x - half, y - half, 2 * half, 2 * half);
    pen.fillStyle = color;
    pen.fillRect(x - half / 2, y - half / 2, half, half);
    return;
  }
  disc(r - thin / 2);
  pen.fill();
  if (form === "disc") return;
  if (form === "hollow") pen.setLineDash([r * 0.14, r * 0.12]);
  pen.stroke();
  pen.setLineDash([]);
  if (form === "ring") return;
  if (form === "hatched") {
    disc(r * 0.92);
    pen.lineWidth = r * 0.09;
    pen.setLineDash([r * 0.05, r * 0.05]);
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = thin;
  }
  disc(r * CORE);
  pen.fillStyle = color;
  if (form === "ground") pen.fill();
  else pen.stroke();
  if (form === "hatched") for (const by of [-0.5, 0, 0.5]) stripe(pen, x + by * r * CORE, y + by * r * CORE, r * CORE * (by ? 0.75 : 0.95));
}

function stripe(pen, x, y, half) {
  const far = half * Math.SQRT1_2;
  pen.beginPath();
  pen.moveTo(x - far, y + far);
  pen.lineTo(x + far, y - far);
  pen.stroke();
}

/** A line from edge to edge of what it joins, with a head at its end, or at both. */
function drawLine(pen, at, { from, to, line }) {
  const [x1, y1, x2, y2] = [at.x(from), at.y(from), at.x(to), at.y(to)];
  const far = Math.hypot(x2 - x1, y2 - y1);
  const [r1, r2] = [at.size(from), at.size(to)];
  if (far <= r1 + r2 + 2) return;
  const [dx, dy] = [(x2 - x1) / far, (y2 - y1) / far];
  const width = line.width * Math.min(2, Math.max(0.7, Math.sqrt(at.scale / 30)));
  const head = Math.min(Math.max(6, 3 * width), (far - r1 - r2) / 2);
  const [begin, end] = [r1 + (line.both ? head : 0), far - r2 - head];
  pen.strokeStyle = pen.fillStyle = line.color;
  pen.lineWidth = width;
  pen.beginPath();
  pen.moveTo(x1 + begin * dx, y1 + begin * dy);
  pen.lineTo(x1 + end * dx, y1 + end * dy);
  pen.stroke();
  const tip = (s, way) => {
    const [x, y] = [x1 + s * dx, y1 + s * dy];
    const [bx, by] = [x - way * head * dx, y - way * head * dy];
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(bx - (head / 2) * dy, by + (head / 2) * dx);
    pen.lineTo(bx + (head / 2) * dy, by - (head / 2) * dx);
    pen.fill();
  };
  tip(far - r2, 1);
  if (line.both) tip(r1, -1);
}

const KEPT = 600; // words that were drawn once and are only copied after that

/** Words with a halo. To draw them costs much more than to copy what was drawn. */
export class Words {
  #kept = new Map();

  /** Writes text at x, y: its middle, or with "left" its beginning, on the line. */
  write(pen, text, x, y, { font, ink, halo, align }) {
    const key = `${font}|${ink}|${halo}|${text}`;
    let drawn = this.#kept.get(key);
    if (!drawn) {
      if (this.#kept.size >= KEPT) this.#kept.clear();
      this.#kept.set(key, (drawn = this.#draw(text, font, ink, halo)));
    }
    pen.drawImage(drawn.canvas, align === "left" ? x - 3 : Math.round(x - drawn.width / 2), Math.round(y - 16), drawn.width, 22);
  }

  #draw(text, font, ink, halo) {
    const scale = devicePixelRatio || 1;
    const canvas = document.createElement("canvas");
    const pen = canvas.getContext("2d");
    pen.font = font;
    const width = Math.ceil(pen.measureText(text).width) + 6;
    [canvas.width, canvas.height] = [Math.ceil(width * scale), Math.ceil(22 * scale)];
    pen.scale(scale, scale);
    Object.assign(pen, { font, lineJoin: "round", lineWidth: 3, strokeStyle: halo, fillStyle: ink });
    pen.strokeText(text, 3, 16);
    pen.fillText(text, 3, 16);
    return { canvas, width };
  }
}
