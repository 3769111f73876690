// The state of the server: the progress of its work, its version, its training, and whether it answers at all.

import { AnswerError, GONE, GoneError, json, onConnection } from "./api.js";
import { count, duration, element, make, plural } from "./dom.js";

const WORKING = 1000; // milliseconds between two questions
const READY = 5000;
const GONE_FIRST = 1000; // doubles up to READY, so that a server that drops each request is not asked without a pause

export class Status {
  // `onVersion` is called when the collection has changed, `onBack` when the server answers again.
  constructor({ onVersion, onBack, onStatus }) {
    Object.assign(this, { onVersion, onBack, onStatus, version: null, last: null, pause: GONE_FIRST });
    onConnection((gone) => this.showConnection(gone));
    element("left-out").onclick = () => this.showLeftOut();
    document.addEventListener("visibilitychange", () => document.hidden || this.ask());
  }

  async ask() {
    clearTimeout(this.timer);
    let wait = READY;
    try {
      const status = await json("status.json");
      this.show(status);
      this.onStatus(status);
      if (this.version !== null && status.version !== this.version) this.onVersion(status);
      this.version = status.version;
      if (status.state === "working") wait = WORKING;
    } catch (error) {
      if (error instanceof GoneError) wait = this.pause;
      else if (!(error instanceof AnswerError)) throw error;
    } finally {
      clearTimeout(this.timer);
      if (!document.hidden) this.timer = setTimeout(() => this.ask(), wait);
    }
  }

  showConnection(gone) {
    const banner = element("gone");
    banner.hidden = !gone;
    banner.textContent = gone ? GONE : "";
    if (!gone) return this.onBack();
    this.pause = performance.now() - (this.goneAt ?? -Infinity) < 4 * READY ? Math.min(2 * this.pause, READY) : GONE_FIRST;
    this.goneAt = performance.now();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), this.pause);
    return undefined;
  }

  show(status) {
    const working = status.state === "working";
    const box = element("progress");
    box.hidden = !working;
    if (working) {
      const { step, steps, label = "", done, total, rate, seconds_left: left } = status;
      const bar = element("progress-bar");
      if (total) Object.assign(bar, { max: total, value: done });
      else bar.removeAttribute("value");
      const parts = [
        rate ? `${rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} a second` : "",
        Number.isFinite(left) && left !== null ? `${duration(left)} left` : "",
      ];
      const title = [steps ? `Step ${step} of ${steps}` : "", label].filter(Boolean).join(": ");
      element("progress-title").textContent = title;
      element("progress-done").textContent = total ? `${count(done)} of ${count(total)}` : "";
      element("progress-rate").textContent = parts.filter(Boolean).map((part) => ` · ${part}`).join("");
      if (title !== this.said) element("progress-spoken").textContent = this.said = title;
    } else if (this.last?.state === "working") element("progress-spoken").textContent = "All photos can be searched.";
    const failed = status.state === "failed";
    this.showMessage(status.message || (failed ? "The work on the collection has stopped. The server's terminal says why." : ""), failed);
    element("left-out").hidden = !status.left_out;
    element("left-out").textContent = `${plural(status.left_out ?? 0, "file was", "files were")} left out`;
    this.showTraining(status.training);
    this.last = status;
  }

  // The first sentence, and the rest on a click. A message that the user has closed does not come back.
  showMessage(message, failed) {
    const box = element("message");
    box.hidden = !message || (message === this.closed && !failed);
    box.classList.toggle("wrong", failed);
    element("message-close").hidden = failed;
    element("message-close").onclick = () => {
      this.closed = message;
      box.hidden = true;
    };
    const end = message.search(/[.!] (?=[A-Z])/);
    const [first, rest] = end < 0 ? [message, ""] : [message.slice(0, end + 1), message.slice(end + 2)];
    const [summary, more] = [box.querySelector("summary"), box.querySelector("p")];
    if (summary.textContent !== first) summary.textContent = first;
    if (more.textContent !== rest) more.textContent = rest;
    box.classList.toggle("short", !rest);
    if (failed) box.querySelector("details").open = true;
  }

  showTraining(training) {
    const box = element("training");
    box.hidden = !training;
    if (!training) return;
    const { before, after, measure, message, state } = training;
    const value = (number) => (Math.abs(number) <= 1 ? `${(100 * number).toFixed(1)} %` : number.toFixed(2));
    const both = Number.isFinite(before) && Number.isFinite(after) && before !== null && after !== null;
    const bars = both ? [["before", before], ["after", after]].map(([name, number]) => {
      const bar = make("i");
      bar.style.width = `${(100 * number) / Math.max(before, after, 1e-9)}%`;
      return make("div", { class: `training-row ${name}` }, make("span", {}, name), make("span", { class: "training-bar" }, bar), make("b", {}, value(number)));
    }) : [];
    const text = message || (both && state === "ready" ? (after > before ? "The trained network is better and is in use." : "The trained network is not better; the first one stays in use.") : "");
    element("training-title").textContent = both ? `Training: ${measure}` : "Training on these photos";
    element("training-body").replaceChildren(...bars, make("p", {}, text || { waiting: "It begins when all photos are described.", working: "It is running.", failed: "It has failed." }[state] || ""));
  }

  async showLeftOut() {
    const dialog = element("left-out-dialog");
    const list = element("left-out-list");
    list.replaceChildren();
    dialog.showModal();
    try {
      const { total, files } = await json("left_out.json");
      element("left-out-total").textContent = `${plural(total, "file is", "files are")} not in the search.${files.length < total ? ` The first ${count(files.length)}:` : ""}`;
      list.replaceChildren(...files.map(({ name, reason }) => make("li", {}, make("b", {}, name), make("span", {}, reason))));
    } catch (error) {
      element("left-out-total").textContent = error.message;
    }
  }
}
