// Photos that the user gave to this page: dropped, pasted, chosen or taken. They are held until the page is closed.

import { element, make } from "./dom.js";

const uploads = new Map(); // number -> {file, address}

export const upload = (number) => uploads.get(number);

function hold(file) {
  const number = uploads.size + 1;
  uploads.set(number, { file, address: URL.createObjectURL(file) });
  return number;
}

// Takes photos from everywhere on the page. `onFiles` is called with their numbers, `onError` with a sentence.
export function takePhotos({ limit, onFiles, onError }) {
  const take = (list) => {
    const files = [...list].filter((file) => file instanceof File);
    const fits = files.filter((file) => file.size > 0 && file.size <= limit());
    const [other] = files.filter((file) => !fits.includes(file));
    if (other && !other.size) onError(`${other.name} is empty. Choose another photo.`);
    else if (other) onError(`${other.name} has ${megabytes(other.size)}; this server takes up to ${megabytes(limit())}. Choose a smaller version of it.`);
    if (fits.length) onFiles(fits.map(hold));
  };
  for (const input of [element("file"), element("camera")]) {
    input.onchange = () => {
      take(input.files);
      input.value = "";
    };
  }
  takeDrops(take);
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;

function takeDrops(take) {
  let depth = 0; // dragenter and dragleave are sent for every element on the way
  const isFiles = (event) => event.dataTransfer?.types.includes("Files");
  const dragging = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  document.addEventListener("dragenter", (event) => isFiles(event) && dragging(1));
  document.addEventListener("dragleave", (event) => isFiles(event) && dragging(-1));
  document.addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    dragging(-depth);
    take(event.dataTransfer.files);
  });
}

// A picture of a query: of the collection, or uploaded.
export function queryImage(query, address) {
  return make("img", { alt: "", src: query.photo === undefined ? upload(query.upload)?.address : address(query.photo), decoding: "async" });
}
