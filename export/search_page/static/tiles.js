// A photo as a tile, in the grid and among results. A tile is an option of a list box: the pointer finds its small
// controls, the keyboard has a key for each of them (keyboard.js), so that Tab does not stop at thousands of buttons.
// Tiles of the grid are made and filled while it is scrolled: they have as few elements as possible, and the controls
// are in the tile under the pointer only.

import { thumbnailAddress } from "./api.js";
import { count, dateAndTime, fileName, icon, make, score } from "./dom.js";
import { state } from "./state.js";

let made = 0;

export function tile(kind = "tile") {
  const image = make("img", { alt: "", decoding: "async", draggable: "false" });
  image.onload = () => node.classList.add("loaded");
  image.onerror = () => image.hasAttribute("src") && node.classList.add("missing");
  const node = make("div", { class: kind, role: "option", id: `tile-${(made += 1)}`, "aria-selected": "false" }, make("span", { class: "tile-picture" }, image));
  node.image = image;
  return node;
}

export function controls(...more) {
  return [
    make("span", { class: "tile-check", "data-act": "select", title: "Select (Space)" }, icon("check")),
    make("span", { class: "tile-search", "data-act": "search", title: "Search with this photo (S)" }, icon("search")),
    ...more,
  ];
}

// Moves one set of controls into the tile under the pointer.
export function showControls(list) {
  const parts = controls();
  list.addEventListener("pointerover", (event) => {
    const node = event.pointerType === "touch" ? null : event.target.closest("[role=option]");
    if (!node || parts[0].parentNode === node) return;
    node.append(...parts);
    node.title = node.photo?.name ?? "";
  });
}

// Shows a photo in a tile; `photo` is undefined while its row is not there yet.
export function fill(node, photo) {
  node.photo = photo;
  const { stack, searchable = true, left_out: reason } = photo ?? {};
  node.stack?.remove();
  node.note?.remove();
  [node.stack, node.note] = [null, null];
  if (stack?.count > 1) {
    node.stack = make("span", { class: "tile-stack", "data-act": "stack", title: `${stackText(stack)}: show all (O)` }, icon("stack"), count(stack.count));
    node.append(node.stack);
  }
  if (!searchable) {
    node.note = reason
      ? make("span", { class: "tile-note", title: `Left out: ${reason}` }, "!")
      : make("span", { class: "tile-note", title: "Not searchable yet" }, icon("clock"));
    node.append(node.note);
  }
  node.classList.toggle("waiting", !searchable);
  node.setAttribute("aria-label", photo ? label(photo) : "photo that is being fetched");
  if (node.title) node.title = photo?.name ?? "";
}

export const stackText = (stack) =>
  stack.kind === "copies" ? `${count(stack.count)} copies` : `${count(stack.count)} photos of one object`;

function label(photo) {
  const parts = [fileName(photo.name)];
  if (photo.score !== undefined) parts.push(`score ${score(photo.score)}`);
  if (photo.match) parts.push(`${count(photo.match.inliers)} matching points`);
  if (photo.time) parts.push(dateAndTime(photo.time));
  if (photo.stack?.count > 1) parts.push(`first of ${stackText(photo.stack)}`);
  if (photo.searchable === false) parts.push(photo.left_out ? `left out: ${photo.left_out}` : "not searchable yet");
  if (state.like.includes(photo.name)) parts.push("more like this");
  return parts.join(", ");
}

export function load(node, pixels) {
  const address = thumbnailAddress(node.photo.name, pixels);
  if (node.image.getAttribute("src") === address) return;
  node.classList.remove("loaded", "missing");
  node.image.src = address;
}

// Removing the address cancels a request that still waits, so that photos on the screen come first.
export function unload(node) {
  if (!node.image.hasAttribute("src")) return;
  node.classList.remove("loaded", "missing");
  node.image.removeAttribute("src");
}
