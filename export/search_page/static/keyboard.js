// The keys of the page. Those of the photos act on the list that has the focus; single letters can be switched off.

import { element } from "./dom.js";

const STORED = "keras-retrieval-letters";

export const lettersOn = () => element("letters").checked;

function stored() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true; // the browser keeps nothing for this page
  }
}

export function listenToKeys({ photos, global }) {
  const box = element("letters");
  box.checked = stored();
  box.onchange = () => {
    try {
      localStorage.setItem(STORED, box.checked ? "on" : "off");
    } catch {
      // Then the choice lasts as long as the page.
    }
  };
  element("help").onclick = () => element("help-dialog").showModal();
  for (const dialog of document.querySelectorAll("dialog.small")) {
    dialog.querySelector(".dialog-close").onclick = () => dialog.close();
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.defaultPrevented || document.querySelector("dialog:modal")) return;
    const list = event.target.closest?.("[role=listbox]");
    const typing = event.target.closest?.("input:not([type=checkbox], [type=range]), textarea, select");
    if (typing) return;
    const withControl = event.ctrlKey || event.metaKey;
    const isLetter = event.key.length === 1 && event.key !== " ";
    if (isLetter && !withControl && !box.checked) return;
    const key = withControl ? `Control+${event.key.toLowerCase()}` : event.key;
    const action = (list && photos[key]) || global[key];
    if (!action || (withControl && !list)) return;
    if (action(event, list) !== false) event.preventDefault();
  });
}
