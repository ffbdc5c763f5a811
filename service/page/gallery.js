/** The user's panoramas, newest first, loaded page by page while scrolling. */

import { picture, request } from "./api.js";
import { byId, h, icon } from "./dom.js";
import { active } from "./jobs.js";
import { statusText } from "./stage.js";

const PAGE = 24;
const STATES = { failed: "Failed", canceled: "Canceled", expired: "Expired" };

export class Gallery {
  #cards = new Map(); // id to {element, parts}
  #next = `/jobs?limit=${PAGE}`;
  #loading = false;

  constructor(jobs, actions) {
    this.jobs = jobs;
    this.actions = actions;
    this.list = byId("gallery");
    jobs.addEventListener("change", ({ detail }) => this.#update(detail));
    byId("more").addEventListener("click", () => this.load());
    this.observer = new IntersectionObserver((entries) => entries.some((each) => each.isIntersecting) && this.load(), { rootMargin: "400px" });
    this.observer.observe(byId("more"));
  }

  /** Load the next page, if there is one. */
  async load() {
    if (this.#loading || !this.#next) return;
    this.#loading = true;
    try {
      this.#next = await this.#page(this.#next);
      byId("more").hidden = !this.#next;
    } finally {
      this.#loading = false;
      this.#count();
    }
    // The observer reports only changes, so it is restarted in case the button is still visible.
    this.observer.unobserve(byId("more"));
    this.observer.observe(byId("more"));
  }

  /** Add jobs that other windows and programs have submitted meanwhile. */
  async refresh() {
    await this.#page(`/jobs?limit=${PAGE}`);
    this.#count();
  }

  mark(id) {
    for (const [each, { link }] of this.#cards) {
      if (each === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  async #page(path) {
    const response = await request(path);
    for (const job of (await response.json()).items) this.jobs.put(job);
    return /<([^>]+)>;\s*rel="next"/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
  }

  #count() {
    byId("nothing").hidden = this.#cards.size > 0 || Boolean(this.#next);
  }

  #update(id) {
    const job = this.jobs.get(id);
    let card = this.#cards.get(id);
    if (!job || !job.input) {
      card?.element.remove();
      this.#cards.delete(id);
    } else {
      if (!card) {
        card = this.#card(job);
        this.#cards.set(id, card);
        this.#place(job, card.element);
      }
      this.#fill(card, job);
    }
    this.#count();
  }

  #place(job, element) {
    const before = this.jobs.list().slice(0).reverse();
    const at = before.findIndex((each) => each.id === job.id);
    const older = before.slice(0, at).reverse().find((each) => this.#cards.has(each.id));
    this.list.insertBefore(element, older ? this.#cards.get(older.id).element : null);
  }

  #card(job) {
    const image = h("img", { alt: "", loading: "lazy", hidden: true });
    const status = h("span", { class: "status" });
    const bar = h("i", { class: "bar-fill" });
    const link = h("a", { href: `#/jobs/${job.id}` },
      h("span", { class: "thumb" }, image, job.input.circular && h("span", { class: "badge" }, "360°"), h("span", { class: "thin" }, bar)),
      h("span", { class: "title" }, job.input.prompt), status);
    const button = h("button", { type: "button", class: "glass round small" });
    const element = h("li", {}, link, button);
    button.addEventListener("click", () => {
      const latest = this.jobs.get(job.id);
      if (active(latest)) this.actions.cancel(latest);
      else this.actions.remove(latest);
    });
    return { element, image, status, bar, link, button, shown: null, icon: null };
  }

  #fill(card, job) {
    const running = active(job);
    card.element.className = job.state;
    card.bar.style.inlineSize = `${job.progress.fraction * 100}%`;
    const when = new Date(job.created_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const text = running ? statusText(job).filter(Boolean).join(" · ") : STATES[job.state] ?? `${job.input.width} × ${job.input.height} · ${when}`;
    if (card.status.textContent !== text) card.status.textContent = text;
    const wantedIcon = running ? "cross" : "bin";
    if (card.icon !== wantedIcon) {
      card.icon = wantedIcon;
      card.button.replaceChildren(icon(wantedIcon));
      card.button.setAttribute("aria-label", `${running ? "Cancel" : "Delete"}: ${job.input.prompt}`);
      card.button.title = running ? "Cancel" : "Delete";
    }
    const small = job.links.thumbnail ?? job.links.image;
    const wanted = job.state === "succeeded" ? small : running ? job.preview?.url : card.shown;
    if (wanted && wanted !== card.shown) this.#picture(card, wanted);
  }

  async #picture(card, path) {
    card.shown = path;
    try {
      const url = await picture(path);
      if (card.shown !== path) return;
      card.image.src = url;
      card.image.hidden = false;
    } catch {
      // The card is shown without a picture.
    }
  }
}
