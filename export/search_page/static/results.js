// The results of a search: large pictures or a ranking, with a cut at a score.

import { base64, GoneError, isAbort, json } from "./api.js";
import { count, element, eachFrame, fileName, folderName, icon, make, percent, plural, score, shortDate } from "./dom.js";
import { foundBox, isPart } from "./found.js";
import { isVerified } from "./matches.js";
import { change, hasFilter, isSearching, searchFilter, state } from "./state.js";
import { controls, fill, load, tile } from "./tiles.js";
import { upload } from "./uploads.js";

const FIRST = 100; // results at first; "more" asks for twice as many
const MOST = 1000;

export class Results {
  // `onFill` marks a tile as selected or judged; `onNone` is called when the filters leave no photo to search.
  constructor({ onFill, onNone, onShown, reasons }) {
    Object.assign(this, { onFill, onNone, onShown, reasons, hits: [], active: -1, k: FIRST, asked: "" });
    this.list = element("results");
    this.slider = element("cut");
    this.slider.oninput = eachFrame(() => this.showCut(this.sliderCut()));
    this.slider.onchange = () => change({ cut: this.sliderCut() }, { replace: true });
    element("look").onclick = () => change({ look: state.look === "pictures" ? "ranking" : "pictures" }, { replace: true });
    element("more-results").onclick = () => { this.k = Math.min(2 * this.k, MOST); this.search(); };
    this.seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) load(target, target.clientWidth);
    }, { rootMargin: "600px", scrollMargin: "600px" });
  }

  // Searches if what is searched with has changed.
  follow() {
    if (!isSearching()) {
      this.request?.abort();
      this.asked = "";
      this.hits = [];
      return;
    }
    const { queries, like, unlike } = state;
    const asked = JSON.stringify([queries, like, unlike, searchFilter()]);
    if (asked !== this.asked) {
      this.asked = asked;
      this.k = FIRST;
      this.isLenient = false;
      this.search();
    } else this.show();
  }

  async search() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    document.body.classList.add("searching");
    this.say("Searching …");
    try {
      const body = await this.body();
      if (!body) return this.fail("This search began with a photo that was uploaded, which a link cannot contain. Choose the photo again.");
      const answer = await json("search.json", { body, signal: request.signal });
      if (this.request !== request) return undefined;
      this.take(answer);
    } catch (error) {
      if (isAbort(error) || this.request !== request) return undefined;
      this.fail(error.message, error);
    } finally {
      if (this.request === request) document.body.classList.remove("searching");
    }
    return undefined;
  }

  async body() {
    const queries = [];
    for (const query of state.queries) {
      const held = query.photo === undefined ? upload(query.upload) : null;
      if (query.photo === undefined && !held) return null;
      if (held) held.base64 ??= await base64(held.file);
      const one = held ? { file: held.base64 } : { photo: query.photo };
      queries.push(...(query.boxes.length ? query.boxes.map((box) => ({ ...one, box })) : [one]));
    }
    const skip = state.queries.map(({ photo }) => photo).filter((photo) => photo !== undefined);
    const least = this.isLenient ? { min_probability: 0 } : {};
    return { queries, like: state.like, unlike: state.unlike, filter: searchFilter(), k: this.k, skip, ...least };
  }

  take(answer) {
    this.hits = answer.hits;
    this.active = -1;
    const unread = answer.queries.map(({ reason }, place) => (reason ? this.unread(place, reason, answer.hits.length > 0) : "")).filter(Boolean);
    if (unread.length) this.problem(unread[0]);
    else element("problem").hidden = true;
    this.compared = answer.compared;
    if (!this.hits.length && unread.length) this.say("");
    else if (this.hits.length && answer.min_probability) this.say(`${plural(this.hits.length, "match", "matches")} of at least ${percent(answer.min_probability)} among ${count(answer.compared)} photos, in ${milliseconds(answer.seconds)}`);
    else if (this.hits.length) this.say(`The ${plural(this.hits.length, "most similar photo")} of ${count(answer.compared)}, in ${milliseconds(answer.seconds)}`);
    else if (answer.min_probability && answer.compared) this.noMatch(answer.min_probability);
    else this.none();
    this.build();
  }

  // Why a photo or a box is not searched with; `others`: whether the search was made with the others.
  unread(place, reason, others) {
    const ofBoxes = state.queries.flatMap((query) => Array(Math.max(1, query.boxes.length)).fill(query));
    const query = ofBoxes[place] ?? {};
    const name = query.photo ?? upload(query.upload)?.file.name ?? "The photo";
    const why = `${fileName(name)} cannot be searched with: ${reason.replace(/\.$/, "")}.`;
    return others ? `${why} The search was made with the others.` : `${why} Choose another photo.`;
  }

  noMatch(least) {
    this.say("No match.");
    this.problem(`No photo shows this object with a probability of ${percent(least)} or more.`, "Show the most similar photos", () => { this.isLenient = true; this.search(); }, { calm: true });
  }

  none() {
    this.say("No photo was found.");
    if (hasFilter()) this.onNone();
    else this.problem("The collection has no other photo that can be searched. Add photos to its folder.", null, null, { calm: true });
  }

  fail(text, error) {
    this.hits = [];
    this.say("");
    this.build();
    this.isWaiting = error?.status === 503 || error instanceof GoneError;
    if (error instanceof GoneError) element("problem").hidden = true; // the banner says it
    else this.problem(text, error ? "Try again" : "Choose a photo", error ? () => this.search() : () => element("file").click());
  }

  say(text) {
    element("results-status").textContent = text;
  }

  // Shows a sentence, with a button that does something about it. `calm`: nothing has failed.
  problem(text, action, onclick, { calm = false } = {}) {
    const box = element("problem");
    box.hidden = false;
    box.classList.toggle("calm", calm);
    box.querySelector("p").textContent = text;
    const act = box.querySelector("button");
    act.hidden = !action;
    act.textContent = action ?? "";
    act.onclick = onclick ?? null;
  }

  // -- showing

  build() {
    this.seen.disconnect();
    this.nodes = this.hits.map((hit, place) => this.node(hit, place));
    this.line = make("div", { class: "cut-line", role: "presentation" }, make("span"));
    this.list.replaceChildren(...this.nodes);
    element("results-tools").hidden = !this.hits.length;
    element("more-results").hidden = this.hits.length < this.k || this.k >= MOST;
    const scores = this.hits.map((hit) => hit.score);
    [this.lowest, this.highest] = [Math.min(...scores), Math.max(...scores)];
    const step = 0.001;
    this.slider.min = Math.floor(this.lowest / step) * step;
    this.slider.max = Math.ceil(this.highest / step) * step;
    this.slider.step = step;
    this.show();
    this.onShown();
  }

  node(hit, place) {
    const node = tile("tile result");
    const share = make("i");
    node.append(make("span", { class: "result-text" },
      make("b", { class: "result-rank" }, String(place + 1)),
      make("span", { class: "result-name" }, fileName(hit.name)),
      make("span", { class: "result-facts" }, [folderName(hit.name), hit.time ? shortDate(hit.time) : ""].filter(Boolean).join(" · ")),
      make("span", { class: "result-bar", "aria-hidden": "true" }, share),
      hit.probability === undefined ? make("span", { class: "result-score" }, score(hit.score))
        : make("span", { class: "result-score", title: "The probability that it shows the same object, and the score" }, `${percent(hit.probability)} · ${score(hit.score)}`),
    ));
    node.append(...controls(
      make("span", { class: "tile-like", "data-act": "like", title: "More like this (+)" }, "+"),
      make("span", { class: "tile-unlike", "data-act": "unlike", title: "Not this (−)" }, "−"),
    ));
    fill(node, hit);
    if (isVerified(hit)) node.querySelector(".tile-picture").append(make("span", { class: "tile-points", title: `${count(hit.match.inliers)} points match` }, icon("pair"), count(hit.match.inliers)));
    if (isPart(hit)) node.querySelector(".tile-picture").append(foundBox(hit, true));
    node.row = place;
    node.setAttribute("aria-posinset", place + 1);
    node.setAttribute("aria-setsize", this.hits.length);
    share.style.width = `${Math.max(0, Math.min(1, hit.score / Math.max(this.hits[0].score, 1e-9))) * 100}%`;
    this.onFill(node);
    this.seen.observe(node);
    return node;
  }

  show() {
    const ranking = state.look === "ranking";
    this.list.classList.toggle("ranking-list", ranking);
    this.list.classList.toggle("has-probabilities", this.hits.some((hit) => hit.probability !== undefined));
    element("look").setAttribute("aria-pressed", String(ranking));
    if (!this.hits.length) return;
    this.slider.value = state.cut ?? this.slider.min;
    this.showCut(state.cut);
    for (const node of this.nodes) this.onFill(node);
  }

  sliderCut() {
    const value = Number(this.slider.value);
    return value <= Number(this.slider.min) ? null : value;
  }

  // Draws the line between the results above the cut and those below it.
  showCut(cut) {
    const above = cut === null ? this.hits.length : this.hits.filter((hit) => hit.score >= cut).length;
    this.above = above;
    const text = cut === null ? "all results" : `${count(above)} of ${count(this.hits.length)} have a score of ${score(cut)} or more`;
    element("cut-text").textContent = cut === null ? "Score: all" : `Score ≥ ${score(cut)}: ${count(above)}`;
    this.slider.setAttribute("aria-valuetext", text);
    this.nodes.forEach((node, place) => node.classList.toggle("below", place >= above));
    this.line.remove();
    if (cut === null) return;
    this.line.firstChild.textContent = above ? text : `No result has a score of ${score(cut)} or more. Move the slider to the left.`;
    this.list.insertBefore(this.line, this.nodes[above] ?? null);
  }

  namesAbove() {
    return this.hits.slice(0, this.above).map((hit) => hit.name);
  }

  scoreOf(name) {
    return this.hits.find((hit) => hit.name === name)?.score;
  }

  // -- the keyboard

  setActive(place) {
    this.nodes[this.active]?.classList.remove("active");
    this.active = place;
    const node = this.nodes[place];
    if (!node) return this.list.removeAttribute("aria-activedescendant");
    node.classList.add("active");
    node.scrollIntoView({ block: "nearest" });
    return this.list.setAttribute("aria-activedescendant", node.id);
  }

  move(key) {
    if (!this.hits.length) return;
    const columns = state.look === "ranking" ? 1 : getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -3 * columns, PageDown: 3 * columns };
    let place = this.active < 0 ? 0 : this.active + (steps[key] ?? 0);
    if (key === "Home") place = 0;
    if (key === "End") place = this.hits.length - 1;
    this.setActive(Math.min(Math.max(place, 0), this.hits.length - 1));
  }
}

const milliseconds = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
