// Starts the page and connects its parts: each part shows the state, and changes it.

import { AnswerError, GoneError, json } from "./api.js";
import { copy, count, element, eachFrame, plural, toast } from "./dom.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { lettersOn, listenToKeys } from "./keyboard.js";
import { Listing } from "./listing.js";
import { PhotoMap } from "./map.js";
import { Query } from "./query.js";
import { Results } from "./results.js";
import { Selection } from "./selection.js";
import { change, filterParameters, followAddress, hasFilter, isSearching, listingParameters, onChange, state, withoutFilter, withoutSearch } from "./state.js";
import { Status } from "./status.js";
import { Timeline } from "./timeline.js";
import { takePhotos } from "./uploads.js";
import { Viewer } from "./viewer.js";

const SIZES = [112, 168, 248]; // pixels of a tile
let about = { folder: "", limits: {}, has: {}, reasons: {} };
let status = null;

// -- the parts

const listing = new Listing(onRows, showError);
const grid = new Grid(element("browse-scroll"), element("grid"), listing, { onActive: () => {}, onView: markTime });
const query = new Query();
const filters = new Filters();
const timeline = new Timeline(scrub);
const map = new PhotoMap({ onArea: takeArea, onPhoto: (name) => change({ open: name }), onError: showError });
const selection = new Selection({ folder: () => about.folder, onChanged: eachFrame(markTiles), onSearch: (names) => query.takeNames(names) });
const results = new Results({ onFill: markTile, onNone: () => explain("No photo that can be searched matches the filters.", { searchable: 1 }), onShown: () => { element("results-view").scrollTop = 0; } });
const viewer = new Viewer({
  sequence: () => (isSearching() ? foundPhotos : allPhotos),
  path: (name) => selection.path(name),
  selection: () => selection,
  queryAddress: (number) => query.address(number),
  actions: { judge, search: searchWith, closed: focusPhoto, lettersOn },
});
const pageStatus = new Status({ onVersion: growGrid, onBack: reload, onStatus: takeStatus });
grid.onFill = markTile;
selection.scores = (name) => results.scoreOf(name);

// The photos before and after the one in the viewer.
const allPhotos = { get count() { return listing.total ?? 0; }, at: (row) => listing.photo(row), find: async (name) => (await listing.row(name)) ?? -1 };
const foundPhotos = {
  get count() { return results.hits.length; },
  at: async (place) => results.hits[place],
  find: async (name) => results.hits.findIndex((hit) => hit.name === name),
};

async function start() {
  onChange(show);
  listen();
  await pageStatus.ask();
  await reload();
}

// Begins anew, also when the server is back.
async function reload() {
  try {
    await loadAbout();
    loadSummary();
    shown.listing = null;
    results.asked = "";
    followAddress();
  } catch (error) {
    showError(error);
  }
}

// What the collection is and has: it gets a network, photos and stacks while the page is open.
async function loadAbout() {
  about = await json("about.json");
  element("title").textContent = document.title = about.title || "Photos";
  element("about").textContent = [plural(about.photos, "photo"), about.network, about.size ? `${about.size} px` : ""].filter(Boolean).join(" · ");
  element("stacks").hidden = !about.has.stacks;
}

async function loadSummary() {
  try {
    const summary = await json("summary.json", { parameters: new URLSearchParams({ cells: 1 }) });
    element("map-open").hidden = !summary.positions?.count;
    element("sort").hidden = !summary.times?.bins?.length;
    filters.setSummary(summary, { times: Boolean(summary.times?.bins?.length) });
  } catch (error) {
    showError(error);
  }
}

// -- the state

const shown = { listing: null, filter: null };

function show(now, before) {
  const listingChanged = String(listingParameters()) !== shown.listing;
  const filterChanged = String(filterParameters()) !== shown.filter;
  shown.listing = String(listingParameters());
  shown.filter = String(filterParameters());
  query.show(before);
  filters.show();
  element("sort").value = now.sort;
  element("stacks").setAttribute("aria-pressed", String(now.stacks));
  element("map-open").setAttribute("aria-pressed", String(now.map));
  element("map-only").checked = now.area !== null;
  document.body.classList.toggle("mapped", now.map);
  if (isSearching() !== isSearching(before)) hideProblem();
  if (listingChanged) openListing();
  if (now.map && (!before.map || element("map").hidden)) map.show(now.area);
  else if (!now.map) map.hide();
  else if (filterChanged) map.load();
  results.follow();
  viewer.follow(before);
}

async function openListing() {
  hideProblem();
  const parameters = listingParameters();
  await listing.open(parameters);
  if (listing.parameters !== parameters || listing.total === null) return;
  if (pendingRow === null) timeline.release();
  grid.reset();
  if (pendingRow !== null) grid.scrollTo(pendingRow);
  pendingRow = null;
  showTotal();
  showTimes();
}

async function showTimes() {
  try {
    const parameters = listingParameters();
    parameters.delete("sort");
    const { times, total } = await json("summary.json", { parameters: new URLSearchParams([...parameters, ["columns", "0"]]) });
    const now = listingParameters();
    now.delete("sort");
    if (String(now) !== String(parameters)) return;
    timeline.show(times);
    markTime(grid.firstRow());
    showTotal(state.stackOf ? listing.total : total);
  } catch (error) {
    showError(error);
  }
}

// `photos` is the number of photos in the listing, also of those within stacks.
function showTotal(photos) {
  const { total } = listing;
  const all = about.photos ?? 0;
  if (photos !== undefined || !total) {
    const texts = [hasFilter() && photos !== all ? `of ${count(all)}` : "", photos > total ? `in ${plural(total, "stack")}` : ""];
    element("total").textContent = plural(photos ?? 0, "photo");
    element("total-of").textContent = texts.filter(Boolean).join(" ");
  }
  filters.showCount(hasFilter() ? (photos ?? total ? `${plural(photos ?? total, "photo")} left` : "No photo is left") : "");
  if (isSearching() || total) return;
  if (hasFilter()) explain("No photo matches these filters.", {});
  else if (status?.state === "working") results.problem("The photos are being listed. They appear here as soon as the first is found.", null, null, { calm: true });
  else results.problem(`There is no photo here yet. Put photos into ${about.folder || "the folder of the collection"}: app shows them within seconds; with --no-watch, start it again.`, null, null, { calm: true });
}

// Says that no photo is left, and then which filters are at fault.
async function explain(text, parameters) {
  const say = (sentence, action, changes) => results.problem(sentence, action, () => change(changes), { calm: true });
  say(text, "Remove the filters", withoutFilter());
  try {
    const found = await filters.reason(parameters);
    if (found && !element("problem").hidden) say(found.text, found.action, found.changes);
  } catch (error) {
    if (!(error instanceof AnswerError) && !(error instanceof GoneError)) throw error; // the first sentence stays
  }
}

function onRows(changed) {
  if (changed) growGrid();
  else grid.refill();
}

// -- growth: the grid goes on with the new rows without moving what is on the screen

let growing = false;
async function growGrid() {
  if (growing) return;
  growing = true;
  try {
    await Promise.all([grid.refresh(), loadAbout()]);
    showTotal();
    if (listing.total) hideProblemOfBrowsing();
    await Promise.all([loadSummary(), showTimes()]);
  } catch (error) {
    showError(error);
  } finally {
    growing = false;
  }
}

function takeStatus(now) {
  const first = results.isWaiting && isSearching() && now.searchable > 0;
  const ends = status?.state === "working" && now.state !== "working";
  status = now;
  if (ends) loadAbout().catch(showError); // the network may be there without a change of the photos
  if (first) {
    results.isWaiting = false;
    results.search();
  }
}

// -- time and place

let pendingRow = null; // row of a listing that is still being opened, to which the time line scrolls

function scrub(row, bin) {
  const known = timeline.bins.reduce((sum, one) => sum + one.count, 0);
  const target = state.sort === "time-desc" ? Math.max(0, known - row - bin.count) : row;
  if (state.sort === "name" || listing.total === null) pendingRow = target;
  if (state.sort === "name") change({ sort: "time" }, { replace: true });
  else if (pendingRow === null) grid.scrollTo(target);
}

function markTime(row) {
  timeline.mark(state.sort === "name" ? null : listing.at(row)?.time ?? null);
}

function takeArea(area) {
  if (element("map-only").checked) change({ area }, { replace: true });
}

// -- tiles: marks, pointer and keys

function markTile(node) {
  const { name } = node.photo ?? {};
  const chosen = name !== undefined && selection.has(name);
  if (chosen !== Boolean(node.chosen)) {
    node.chosen = chosen;
    node.classList.toggle("selected", chosen);
    node.setAttribute("aria-selected", String(chosen));
  }
  const liked = state.like.includes(name);
  if (liked !== Boolean(node.liked)) node.classList.toggle("liked", (node.liked = liked));
}

function markTiles() {
  for (const node of document.querySelectorAll("[role=option]")) markTile(node);
}

const isGrid = (list) => list.id === "grid";
const activePhoto = (list) => (isGrid(list) ? listing.at(grid.active) : results.hits[results.active]);
const activeRow = (list) => (isGrid(list) ? grid.active : results.active);
const namesOf = (list) => (isGrid(list) ? (first, last) => listing.names(first, last) : async (first, last) => results.hits.slice(first, last + 1).map(({ name }) => name));

function searchWith(name, boxes = []) {
  change({ ...withoutSearch(), queries: [{ photo: name, boxes }], open: "" });
}

function judge(name, list) {
  if (list === "unlike" && !isSearching()) toast("Search with a photo first. Then say which results are not like it.");
  else query.judge(name, list);
}

const actions = {
  open: ({ name }) => change({ open: name }),
  search: ({ name }) => searchWith(name),
  stack: ({ name, stack }) => stack && change({ stackOf: name, ...withoutSearch() }),
  like: ({ name }) => judge(name, "like"),
  unlike: ({ name }) => judge(name, "unlike"),
};

async function select(list, photo, row, range) {
  if (!range) return selection.toggle(photo.name, row);
  try {
    return await selection.range(row, namesOf(list));
  } catch (error) {
    return showError(error);
  }
}

function clickTile(event) {
  const node = event.target.closest("[role=option]");
  if (!node?.photo) return;
  const list = event.currentTarget;
  (isGrid(list) ? grid : results).setActive(node.row, false);
  const act = event.target.closest("[data-act]")?.dataset.act;
  const selects = act === "select" || event.ctrlKey || event.metaKey || event.shiftKey || (!act && document.body.classList.contains("selecting"));
  if (selects) select(list, node.photo, node.row, event.shiftKey);
  else actions[act ?? (node.photo.stack?.count > 1 && isGrid(list) ? "stack" : "open")](node.photo);
}

// A long press selects, as in other galleries.
function pressTile(list) {
  let [timer, from] = [0, null];
  list.addEventListener("pointerdown", (event) => {
    list.pressed = false;
    if (event.pointerType !== "touch") return;
    from = event;
    const node = event.target.closest("[role=option]");
    timer = setTimeout(() => node?.photo && select(list, node.photo, node.row, false).then(() => { list.pressed = true; }), 500);
  });
  for (const type of ["pointerup", "pointercancel"]) list.addEventListener(type, () => clearTimeout(timer));
  list.addEventListener("pointermove", (event) => {
    if (from && Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY) > 10) clearTimeout(timer);
  });
  list.addEventListener("click", (event) => {
    if (!list.pressed) return clickTile(event);
    list.pressed = false;
    return undefined;
  });
  list.addEventListener("contextmenu", (event) => list.pressed && event.preventDefault());
}

async function selectAll() {
  try {
    selection.add(isSearching() ? results.namesAbove() : await listing.names());
  } catch (error) {
    showError(error);
  }
}

function focusPhoto(place) {
  const part = isSearching() ? results : grid;
  if (place >= 0) part.setActive(place);
  part.list.focus({ preventScroll: true });
}

function escape() {
  if (selection.names.size) selection.clear();
  else if (isSearching()) change(withoutSearch());
  else if (state.stackOf) change({ stackOf: "" });
  else return false;
  return true;
}

const onActive = (action) => (event, list) => {
  const photo = activePhoto(list);
  return photo ? action(photo, event, list) : false;
};
const move = (event, list) => {
  const part = isGrid(list) ? grid : results;
  part.move(event.key);
  if (event.shiftKey && activePhoto(list)) select(list, activePhoto(list), activeRow(list), true);
};

function listen() {
  window.addEventListener("popstate", followAddress);
  window.addEventListener("hashchange", followAddress);
  for (const type of ["wheel", "touchmove", "pointerdown", "keydown"]) element("browse-scroll").addEventListener(type, () => timeline.release(), { passive: true });
  for (const list of [element("grid"), element("results")]) pressTile(list);
  takePhotos({ limit: () => about.limits.upload_bytes ?? Infinity, onFiles: (numbers) => query.takeUploads(numbers), onError: (text) => results.problem(text) });
  element("sort").onchange = (event) => change({ sort: event.target.value }, { replace: true });
  element("stacks").onclick = () => change({ stacks: !state.stacks }, { replace: true });
  element("map-open").onclick = () => change({ map: !state.map, ...(state.map ? { area: null } : {}) }, { replace: true });
  element("map-only").onchange = (event) => change({ area: event.target.checked ? map.view.area() : null }, { replace: true });
  element("size").oninput = (event) => grid.measure(SIZES[event.target.value]);
  for (const id of ["select-all", "selection-all"]) element(id).onclick = selectAll;
  element("link").onclick = copyLink;
  const arrows = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"];
  listenToKeys({
    photos: {
      ...Object.fromEntries(arrows.map((key) => [key, move])),
      Enter: onActive((photo) => actions.open(photo)),
      " ": onActive((photo, event, list) => void select(list, photo, activeRow(list), event.shiftKey)),
      s: onActive(actions.search),
      o: onActive(actions.stack),
      "+": onActive(actions.like),
      "=": onActive(actions.like),
      "-": onActive(actions.unlike),
      c: onActive(({ name }) => void copy(selection.path(name), "Path")),
      "Control+a": () => void selectAll(),
    },
    global: {
      Escape: escape,
      "?": () => element("help-dialog").showModal(),
      "/": () => { filters.open(); element("text").focus(); },
      u: () => query.choose("file"),
      m: () => void (element("map-open").hidden || element("map-open").click()),
      l: () => void (isSearching() && element("look").click()),
    },
  });
}

function copyLink() {
  copy(location.href, "Link");
  if (state.queries.some(({ photo }) => photo === undefined)) toast("Link copied. It cannot contain your uploaded photo: only this window can show this search.");
}

// -- failures

function showError(error) {
  if (error instanceof GoneError) return; // the banner says it
  if (!(error instanceof AnswerError)) throw error;
  results.problem(error.message, "Try again", reload);
}

function hideProblem() {
  element("problem").hidden = true;
}

function hideProblemOfBrowsing() {
  if (!isSearching()) hideProblem();
}

start();
