// The photos that are searched with: one of them large, with boxes on it, the others beside it, and the photos of
// "more like this" and "not this".

import { photoAddress, thumbnailAddress } from "./api.js";
import { Boxes } from "./boxes.js";
import { element, fileName, icon, make } from "./dom.js";
import { change, isSearching, state, withoutSearch } from "./state.js";
import { queryImage, upload } from "./uploads.js";

export class Query {
  constructor() {
    this.at = 0; // number of the query that is shown large
    this.image = element("query-photo");
    this.boxes = new Boxes(this.image, element("query-canvas"), (boxes) => this.setBoxes(boxes));
    this.image.onload = () => this.showPhoto(true);
    this.image.onerror = () => this.image.hasAttribute("src") && this.showPhoto(false);
    for (const [id, input] of [["choose", "file"], ["choose-more", "file"], ["take", "camera"]]) element(id).onclick = () => this.choose(input);
    element("whole").onclick = () => this.setBoxes([]);
    element("leave").onclick = () => change(withoutSearch());
  }

  // Adds to the search, or begins a new one.
  choose(input) {
    this.adds = isSearching() && document.activeElement === element("choose-more");
    element(input).click();
  }

  takeUploads(numbers) {
    const added = numbers.map((number) => ({ upload: number, boxes: [] }));
    this.search(this.adds ? [...state.queries, ...added] : added, this.adds);
    this.adds = false;
  }

  takeNames(names) {
    this.search(names.map((photo) => ({ photo, boxes: [] })), false);
  }

  search(queries, keep) {
    this.at = keep ? queries.length - 1 : 0;
    change({ ...(keep ? {} : withoutSearch()), queries, open: "" });
  }

  setBoxes(boxes) {
    const queries = state.queries.map((query, place) => (place === this.at ? { ...query, boxes } : query));
    change({ queries }, { replace: true });
  }

  // -- "more like this", "not this": a name is in one of the two lists or in none

  judge(name, list) {
    const other = list === "like" ? "unlike" : "like";
    const has = state[list].includes(name);
    const changes = { [list]: has ? state[list].filter((one) => one !== name) : [...state[list], name], [other]: state[other].filter((one) => one !== name) };
    change(changes);
  }

  // The address of the photo with which a query of the search was made; "" if the page does not have it any more.
  address(number) {
    const queries = state.queries.flatMap((query) => Array(Math.max(1, query.boxes.length)).fill(query));
    const query = queries[number];
    if (!query) return "";
    return query.photo === undefined ? upload(query.upload)?.address ?? "" : photoAddress(query.photo);
  }

  // -- showing

  show(before) {
    const searching = isSearching();
    document.body.classList.toggle("searching-view", searching);
    element("invitation").hidden = searching;
    element("query").hidden = !searching;
    if (!searching) {
      this.image.removeAttribute("src");
      return;
    }
    if (state.queries.length !== before.queries.length) this.at = Math.min(this.at, Math.max(0, state.queries.length - 1));
    this.showLarge();
    this.showOthers();
    this.showJudged("like", "More like");
    this.showJudged("unlike", "Not like");
  }

  showLarge() {
    const query = state.queries[this.at];
    element("query-stage").hidden = !query;
    element("query-name").hidden = !query;
    if (!query) return;
    const held = query.photo === undefined ? upload(query.upload) : null;
    const address = held ? held.address : query.photo === undefined ? "" : photoAddress(query.photo);
    const name = query.photo ?? held?.file.name ?? "";
    element("query-name").textContent = name;
    this.image.alt = name || "photo of the search";
    if (this.image.getAttribute("src") !== address) {
      element("query-stage").classList.remove("loaded", "unseen");
      if (address) this.image.src = address;
      else this.image.removeAttribute("src");
    }
    this.boxes.set(query.boxes);
    element("whole").hidden = !query.boxes.length;
  }

  showPhoto(seen) {
    element("query-stage").classList.toggle("loaded", seen);
    element("query-stage").classList.toggle("unseen", !seen);
    element("query-hint").hidden = !seen;
  }

  showOthers() {
    const several = state.queries.length > 1;
    element("query-others").hidden = !several;
    if (!several) return element("query-others").replaceChildren();
    return element("query-others").replaceChildren(...state.queries.map((query, place) => {
      const name = query.photo ?? upload(query.upload)?.file.name ?? "photo";
      const show = make("button", { type: "button", class: "thumb", "aria-label": `Show ${fileName(name)}`, "aria-pressed": String(place === this.at) }, queryImage(query, thumbnailAddress));
      show.onclick = () => { this.at = place; this.showLarge(); this.showOthers(); };
      return make("li", {}, show, this.remover(name, () => {
        this.at = Math.max(0, place <= this.at ? this.at - 1 : this.at);
        change({ queries: state.queries.filter((_, other) => other !== place) });
      }));
    }));
  }

  showJudged(list, title) {
    const box = element(`query-${list}`);
    box.hidden = !state[list].length;
    box.querySelector("h3").textContent = title;
    box.querySelector("ul").replaceChildren(...state[list].map((name) => make(
      "li", {},
      make("span", { class: "thumb" }, make("img", { alt: fileName(name), src: thumbnailAddress(name), decoding: "async" })),
      this.remover(name, () => this.judge(name, list)),
    )));
  }

  remover(name, onclick) {
    return make("button", { type: "button", class: "remove", "aria-label": `Remove ${fileName(name)}`, onclick }, icon("close"));
  }
}

