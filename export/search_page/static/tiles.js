// A photo as a tile, in the grid and among results. A tile is an option of a list box: the pointer finds its small
// controls, the keyboard has a key for each of them (keyboard.js), so that Tab does not stop at thousands of buttons.

import { thumbnailAddress } from "./api.js";
import { count, dateAndTime, fileName, icon, make, score } from "./dom.js";
import { state } from "./state.js";

let made = 0;

export function tile(kind = "tile") {
  const image = make("img", { alt: "", decoding: "async", draggable: "false" });
  image.onload = () => node.classList.add("loaded");
  image.onerror = () => image.hasAttribute("src") && node.classList.add("missing");
  const node = make(
    "div",
    { class: kind, role: "option", id: `tile-${(made += 1)}`, "aria-selected": "false" },
    make("span", { class: "tile-picture" }, image),
    make("span", { class: "tile-check", "data-act": "select", title: "Select (Space)" }, icon("check")),
    make("span", { class: "tile-search", "data-act": "search", title: "Search with this photo (S)" }, icon("search")),
    make("span", { class: "tile-stack", "data-act": "stack" }),
    make("span", { class: "tile-note", title: "Not searchable yet" }, icon("clock")),
  );
  return node;
}

// Shows a photo in a tile; `photo` is undefined while its row is not there yet.
export function fill(node, photo) {
  node.photo = photo;
  const { name = "", stack, searchable = true } = photo ?? {};
  const stackPart = node.querySelector(".tile-stack");
  stackPart.hidden = !stack || stack.count < 2;
  if (stack?.count > 1) {
    stackPart.replaceChildren(icon("stack"), count(stack.count));
    stackPart.title = `${stackText(stack)}: show all (O)`;
  }
  node.classList.toggle("stacked", stack?.count > 1);
  node.classList.toggle("waiting", Boolean(photo) && !searchable);
  node.setAttribute("aria-label", photo ? label(photo) : "photo that is being fetched");
  node.title = name;
}

export const stackText = (stack) =>
  stack.kind === "copies" ? `${count(stack.count)} copies` : `${count(stack.count)} photos of one object`;

function label(photo) {
  const parts = [fileName(photo.name)];
  if (photo.score !== undefined) parts.push(`score ${score(photo.score)}`);
  if (photo.time) parts.push(dateAndTime(photo.time));
  if (photo.stack?.count > 1) parts.push(`first of ${stackText(photo.stack)}`);
  if (photo.searchable === false) parts.push("not searchable yet");
  if (state.like.includes(photo.name)) parts.push("more like this");
  return parts.join(", ");
}

export function load(node, pixels) {
  const image = node.querySelector("img");
  const address = thumbnailAddress(node.photo.name, pixels);
  if (image.getAttribute("src") === address) return;
  node.classList.remove("loaded", "missing");
  image.src = address;
}

// Removing the address cancels a request that still waits, so that photos on the screen come first.
export function unload(node) {
  node.classList.remove("loaded", "missing");
  node.querySelector("img").removeAttribute("src");
}
