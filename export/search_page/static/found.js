// The part of a photo that was found: the box of its best crop, drawn on the picture. It scales with the picture.

const SVG = "http://www.w3.org/2000/svg";

// Whether only a part of the photo was found; hits of an index without crops have no box.
export function isPart({ box, size }) {
  if (!box || !size) return false;
  const [left, top, right, bottom] = box;
  return left > 0 || top > 0 || right < size[0] || bottom < size[1];
}

// `covers`: the picture fills its frame and is cut off at its sides.
export function foundBox({ box: [left, top, right, bottom], size: [width, height] }, covers = false) {
  const drawing = document.createElementNS(SVG, "svg");
  const attributes = { class: "found-box", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: covers ? "xMidYMid slice" : "none", "aria-hidden": "true" };
  for (const [name, value] of Object.entries(attributes)) drawing.setAttribute(name, value);
  for (const kind of ["found-edge", "found-line"]) {
    const frame = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ class: kind, x: left, y: top, width: right - left, height: bottom - top })) frame.setAttribute(name, value);
    drawing.append(frame);
  }
  return drawing;
}
