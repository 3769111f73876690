// Boxes on a photo: drawn, moved and resized with the pointer, a finger or the keyboard. They are kept in pixels of
// the photo and drawn in those of the screen.

import { make } from "./dom.js";

const SMALLEST = 8; // pixels on the screen: a shorter drag is a click and draws no box
const STEP = 0.03; // part of the photo's longer side that an arrow key moves
const WAIT = 400; // milliseconds after the last key until the search begins

export class Boxes {
  // `canvas` lies on `image` and takes the pointer and the keys; boxes are drawn into it. `onChanged` is called with
  // the boxes when they have been changed, and not while they are.
  constructor(image, canvas, onChanged) {
    Object.assign(this, { image, canvas, onChanged, boxes: [], at: -1 });
    this.listen();
    canvas.onkeydown = (event) => this.key(event);
    new ResizeObserver(() => this.draw()).observe(image);
    image.addEventListener("load", () => this.draw());
  }

  set(boxes) {
    this.boxes = boxes.map((box) => [...box]);
    this.at = this.boxes.length - 1;
    this.draw();
  }

  get size() {
    return [this.image.naturalWidth, this.image.naturalHeight];
  }

  get scale() {
    return this.image.clientWidth ? this.image.naturalWidth / this.image.clientWidth : 1;
  }

  // -- drawing

  draw() {
    const { scale } = this;
    const nodes = this.boxes.map(([left, top, right, bottom], place) => {
      const node = make("div", { class: place === this.at ? "box current" : "box" }, make("i"));
      const sides = { left, top, width: right - left, height: bottom - top };
      for (const [side, length] of Object.entries(sides)) node.style[side] = `${length / scale}px`;
      return node;
    });
    this.canvas.replaceChildren(...nodes);
    this.canvas.classList.toggle("boxed", nodes.length > 0);
  }

  changed() {
    this.boxes = this.boxes.filter(([left, top, right, bottom]) => right > left && bottom > top);
    this.at = Math.min(this.at, this.boxes.length - 1);
    this.draw();
    this.onChanged(this.boxes.map((box) => [...box]));
  }

  // A box of two corners, within the photo.
  static between([x, y], [otherX, otherY], [width, height]) {
    const inside = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
    const [left, right] = [Math.min(x, otherX), Math.max(x, otherX)];
    const [top, bottom] = [Math.min(y, otherY), Math.max(y, otherY)];
    return [inside(left, width), inside(top, height), inside(right, width), inside(bottom, height)];
  }

  // -- the pointer: draws outside of boxes, moves within one, resizes at its lower right corner

  listen() {
    const { canvas } = this;
    let drag = null;
    const place = (event) => {
      const edge = canvas.getBoundingClientRect();
      return [(event.clientX - edge.left) * this.scale, (event.clientY - edge.top) * this.scale];
    };
    canvas.onpointerdown = (event) => {
      if (event.button || !this.image.naturalWidth || drag) return;
      canvas.setPointerCapture(event.pointerId);
      const [x, y] = place(event);
      const hit = this.boxes.findLastIndex(([left, top, right, bottom]) => x >= left && x <= right && y >= top && y <= bottom);
      const before = this.boxes.map((box) => [...box]);
      if (hit < 0) {
        this.boxes.push([x, y, x, y]);
        this.at = this.boxes.length - 1;
        drag = { how: "draw", from: [x, y], before };
      } else {
        this.at = hit;
        const [, , right, bottom] = this.boxes[hit];
        const isCorner = Math.hypot(right - x, bottom - y) < 18 * this.scale;
        drag = { how: isCorner ? "resize" : "move", from: [x, y], box: [...this.boxes[hit]], before };
      }
      this.draw();
    };
    canvas.onpointermove = (event) => {
      if (!drag) return;
      const [x, y] = place(event);
      const { how, from, box } = drag;
      if (how === "draw") this.boxes[this.at] = Boxes.between(from, [x, y], this.size);
      else if (how === "resize") this.boxes[this.at] = Boxes.between(box.slice(0, 2), [x, y], this.size);
      else this.boxes[this.at] = this.moved(box, x - from[0], y - from[1]);
      this.draw();
    };
    canvas.onpointerup = (event) => {
      if (!drag) return;
      const [x, y] = place(event);
      const [wide, tall] = [Math.abs(x - drag.from[0]), Math.abs(y - drag.from[1])];
      const isClick = drag.how === "draw" ? Math.min(wide, tall) < SMALLEST * this.scale : Math.max(wide, tall) < 2 * this.scale;
      if (isClick) {
        this.boxes = drag.before;
        this.at = drag.how === "draw" ? this.boxes.length - 1 : this.at;
        this.draw();
      } else this.changed();
      drag = null;
    };
    canvas.onpointercancel = () => {
      if (drag) this.set(drag.before);
      drag = null;
    };
  }

  moved([left, top, right, bottom], x, y) {
    const [width, height] = this.size;
    const [over, down] = [Math.min(Math.max(x, -left), width - right), Math.min(Math.max(y, -top), height - bottom)];
    return [left + over, top + down, right + over, bottom + down].map(Math.round);
  }

  // -- the keyboard

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.image.naturalWidth) return;
    const [width, height] = this.size;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const box = this.boxes[this.at];
    const step = Math.max(width, height) * STEP;
    if (event.key === "Enter") {
      this.boxes.push([width / 4, height / 4, (3 * width) / 4, (3 * height) / 4].map(Math.round));
      this.at = this.boxes.length - 1;
    } else if (arrows[event.key] && box) {
      const [x, y] = arrows[event.key].map((one) => one * step);
      const [left, top, right, bottom] = box;
      const corner = [Math.max(right + x, left + step), Math.max(bottom + y, top + step)];
      this.boxes[this.at] = event.shiftKey ? Boxes.between([left, top], corner, this.size) : this.moved(box, x, y);
    } else if (["Escape", "Delete", "Backspace"].includes(event.key) && box) {
      this.boxes.splice(this.at, 1);
      this.at = this.boxes.length - 1;
    } else if (event.key === "n" && this.boxes.length > 1) {
      this.at = (this.at + 1) % this.boxes.length;
      event.preventDefault();
      event.stopPropagation();
      return this.draw();
    } else return undefined;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.changed(), WAIT);
    return undefined;
  }
}
