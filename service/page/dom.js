/** Helpers for the DOM. */

export const byId = (id) => document.getElementById(id);

/** Create an element. Attributes named `on...` are listeners; those with false or null are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

const SHAPES = {
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  whole: "M3 8h18v8H3zM7 5h10M7 19h10",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  down: "M12 4v11M7 11l5 5 5-5M5 20h14",
  again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  pen: "M4 20l1-4L16 5l3 3L8 19z",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  cross: "M6 6l12 12M18 6L6 18",
};

/** An icon of 24 by 24 pixels. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

let toastTimer = 0;

/** Have screen readers read a text when they are idle. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Show a message for a few seconds. */
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), 6000);
}

/** Open a dialog. Resolves to true when its form is submitted, to false when it is closed in another way. */
export function ask(dialog, cancelButton) {
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    const ended = new AbortController();
    const end = (answer) => {
      ended.abort();
      dialog.close();
      resolve(answer);
    };
    const { signal } = ended;
    form.addEventListener("submit", (event) => (event.preventDefault(), end(true)), { signal });
    cancelButton.addEventListener("click", () => end(false), { signal });
    dialog.addEventListener("close", () => end(false), { signal });
    dialog.showModal();
  });
}

/** "about 40 s", "about 3 min". */
export function duration(seconds) {
  if (seconds < 1.5) return "a moment";
  if (seconds < 90) return `about ${Math.round(seconds)} s`;
  return seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${(seconds / 3600).toFixed(1)} h`;
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
