// The search page: a photo, perhaps a box on it, and its neighbours. Everything goes through the REST API.
"use strict";

const MOST = 24; // neighbours to show
const SMALLEST = 8; // pixels on the screen: a shorter drag is a click and draws no box
const element = (id) => document.getElementById(id);
const state = { about: null, upload: null, file: null, name: null, box: null, request: null };

async function start() {
  try {
    state.about = await json(await fetch("/about.json"));
  } catch (error) {
    return showError(error, start);
  }
  const { photos, network, size } = state.about;
  element("facts").textContent = `${photos.toLocaleString()} photos · ${network} · ${size} px`;
  const list = element("samples").querySelector("ul");
  list.replaceChildren(...state.about.samples.map((name) => card(name)));
  element("samples").hidden = !state.about.samples.length;
  showStatus("Drop or choose a photo. The photos most similar to it appear here.");
  if (state.about.problem) return showError(new Error(state.about.problem));
  followAddress();
}

// A photo of the index has an address of its own, so that Back and bookmarks work.
function followAddress() {
  let name = "";
  try {
    name = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; // not a photo's name
  }
  if (name && name !== state.name) openNeighbour(name);
  if (!name && state.name !== null && state.upload) open(state.upload, null);
}

function visit(name) {
  const address = "#" + encodeURIComponent(name);
  if (location.hash === address) openNeighbour(name);
  else location.hash = address;
}

async function openNeighbour(name) {
  try {
    const answer = await fetch("/photos/" + encodeURIComponent(name));
    if (!answer.ok) throw new Error(answer.status === 404 ? `${name} is not among the photos.` : await reason(answer));
    open(await answer.blob(), name);
  } catch (error) {
    showError(error, () => openNeighbour(name));
  }
}

function openFile(file) {
  if (location.hash) history.pushState(null, "", location.pathname);
  state.upload = file;
  open(file, null);
}

function open(file, name) {
  Object.assign(state, { file, name, box: null });
  const photo = element("photo");
  URL.revokeObjectURL(photo.src);
  photo.onload = () => { element("stage").hidden = false; showBox(); };
  photo.onerror = () => { element("stage").hidden = true; element("invitation").hidden = false; };
  photo.src = URL.createObjectURL(file);
  photo.alt = name ?? file.name ?? "your photo";
  document.body.classList.add("has-photo");
  element("invitation").hidden = true;
  element("hint").hidden = false;
  element("about").textContent = name ?? file.name ?? "";
  element("choose").textContent = "Choose another photo";
  showBox();
  search();
}

async function search() {
  if (!state.file) return;
  state.request?.abort();
  const request = (state.request = new AbortController());
  const { file, name, box } = state;
  document.body.classList.add("searching");
  showStatus("Searching…");
  try {
    const inputs = { image_bytes: [{ b64: await base64(file) }], k: MOST + (name === null ? 0 : 1) };
    if (box) inputs.boxes = [[box.left, box.top, box.right, box.bottom]];
    const answer = await fetch(`/v1/models/${encodeURIComponent(state.about.model)}:predict`, {
      method: "POST",
      body: JSON.stringify({ signature_name: "search", inputs }),
      signal: request.signal,
    });
    show((await json(answer)).outputs, name);
  } catch (error) {
    if (request.signal.aborted) return;
    element("neighbours").replaceChildren();
    showError(error, search);
  }
  if (state.request === request) document.body.classList.remove("searching");
}

function show(outputs, own) {
  const status = outputs.status[0];
  if (status) throw new Error("This photo cannot be searched with: " + (state.about.reasons[status] ?? `status ${status}`) + ".");
  const found = outputs.names[0].map((name, rank) => ({ name, score: outputs.scores[0][rank] }));
  const others = found.filter(({ name }) => name !== own).slice(0, MOST);
  element("neighbours").replaceChildren(...others.map(({ name, score }) => card(name, score)));
  if (!others.length) showStatus("The index has no other photo.");
  else showStatus(`The ${others.length} most similar photos` + (state.box ? " to the box" : "") + ". Choose one to search on.");
  scrollTo({ top: 0, behavior: "smooth" });
}

function card(name, score) {
  const item = element("card").content.firstElementChild.cloneNode(true);
  const [button, image] = [item.querySelector("button"), item.querySelector("img")];
  const text = score === undefined ? "" : score.toFixed(3);
  item.querySelector(".score").textContent = text;
  item.querySelector(".score").hidden = !text;
  item.querySelector(".name").textContent = name;
  button.title = name;
  button.setAttribute("aria-label", text ? `${name}, score ${text}` : name);
  image.onerror = () => { item.classList.add("missing"); button.disabled = true; };
  image.src = "/thumbnails/" + encodeURIComponent(name);
  button.onclick = () => visit(name);
  return item;
}

// -- the server's answers

async function json(answer) {
  if (!answer.ok) throw new Error(await reason(answer));
  return answer.json();
}

async function reason(answer) {
  if ([429, 503, 504].includes(answer.status)) return "The server is busy. Try again in a moment.";
  if (answer.status === 413) return "This file is too large for the server.";
  const document = await answer.json().catch(() => ({}));
  return document.error ?? `The server answers with ${answer.status}.`;
}

function showStatus(text) {
  element("status").className = "";
  element("status").textContent = text;
}

function showError(error, again) {
  const status = element("status");
  document.body.classList.remove("searching");
  status.className = "wrong";
  // fetch rejects with a TypeError when the server cannot be reached.
  status.textContent = error instanceof TypeError ? "The server does not answer. Is it running?" : error.message;
  if (!again) return;
  const button = document.createElement("button");
  button.textContent = "Try again";
  button.onclick = again;
  status.append(button);
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The browser cannot read this file."));
    reader.readAsDataURL(file);
  });
}

// -- the box: kept in pixels of the photo, drawn in those of the screen

function photoSize() {
  const photo = element("photo");
  return { width: photo.naturalWidth, height: photo.naturalHeight, scale: photo.naturalWidth / photo.clientWidth };
}

function showBox() {
  const { box } = state;
  element("box").hidden = !box;
  element("whole").hidden = !box;
  if (!box) return;
  const { scale } = photoSize();
  const pixels = { left: box.left, top: box.top, width: box.right - box.left, height: box.bottom - box.top };
  for (const [side, length] of Object.entries(pixels)) element("box").style[side] = `${length / scale}px`;
}

function setBox(one, other) {
  const { width, height } = photoSize();
  const inside = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
  const box = {
    left: inside(Math.min(one.x, other.x), width), right: inside(Math.max(one.x, other.x), width),
    top: inside(Math.min(one.y, other.y), height), bottom: inside(Math.max(one.y, other.y), height),
  };
  state.box = box.right > box.left && box.bottom > box.top ? box : null;
  showBox();
}

function wholePhoto() {
  const had = state.box;
  state.box = null;
  showBox();
  if (had) search();
}

function drawWithPointer(canvas) {
  const at = (event) => {
    const edge = canvas.getBoundingClientRect();
    return { x: (event.clientX - edge.left) * photoSize().scale, y: (event.clientY - edge.top) * photoSize().scale };
  };
  let from = null;
  let before = null;
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    [from, before] = [at(event), state.box];
  };
  canvas.onpointermove = (event) => from && setBox(from, at(event));
  canvas.onpointercancel = () => { from = null; state.box = before; showBox(); };
  canvas.onpointerup = (event) => {
    if (!from) return;
    const to = at(event);
    const drawn = Math.min(Math.abs(to.x - from.x), Math.abs(to.y - from.y)) >= SMALLEST * photoSize().scale;
    from = null;
    if (drawn) search();
    else { state.box = before; showBox(); }
  };
}

function drawWithKeys(canvas) {
  let wait = 0;
  canvas.onkeydown = (event) => {
    const { width, height } = photoSize();
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Escape") return wholePhoto();
    if (event.key === "Enter" && !state.box) setBox({ x: width / 4, y: height / 4 }, { x: (3 * width) / 4, y: (3 * height) / 4 });
    else if (steps[event.key] && state.box) moveBox(...steps[event.key].map((step) => step * Math.max(width, height) * 0.03), event.shiftKey);
    else return undefined;
    event.preventDefault();
    clearTimeout(wait);
    wait = setTimeout(search, 400);
  };
}

function moveBox(x, y, resize) {
  const { left, top, right, bottom } = state.box;
  const { width, height } = photoSize();
  if (resize) return setBox({ x: left, y: top }, { x: Math.max(right + x, left + 1), y: Math.max(bottom + y, top + 1) });
  const [over, down] = [Math.min(Math.max(x, -left), width - right), Math.min(Math.max(y, -top), height - bottom)];
  return setBox({ x: left + over, y: top + down }, { x: right + over, y: bottom + down });
}

// -- how photos come in

function takeDrops() {
  let depth = 0; // dragenter and dragleave are sent for every element on the way
  const dragging = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  document.ondragenter = () => dragging(1);
  document.ondragleave = () => dragging(-1);
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => {
    event.preventDefault();
    dragging(-depth);
    take(event.dataTransfer.files);
  };
  document.onpaste = (event) => take(event.clipboardData.files);
}

function take(files) {
  if (files.length) openFile(files[0]);
}

element("choose").onclick = () => element("file").click();
element("file").onchange = (event) => { take(event.target.files); event.target.value = ""; };
element("whole").onclick = wholePhoto;
onhashchange = followAddress;
onresize = showBox;
drawWithPointer(element("canvas"));
drawWithKeys(element("canvas"));
takeDrops();
start();
