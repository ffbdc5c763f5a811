/** The form. Its fields come from the request's JSON schema and GET /models; this file arranges and labels them. */

import { h } from "./dom.js";

// Fields shown first, and labels. Fields that are not listed here appear under "More settings".
const FRONT = ["prompt", "model", "preset", "circular", "seed"];
const SIZE = ["width", "height"];
const NOT_SHOWN = ["metadata", "webhook_url", "priority", "regions", "region_feather", "region_bootstrap"];
const LABELS = {
  circular: "All the way round (360°)",
  num_inference_steps: "Steps",
  guidance_scale: "Guidance",
  negative_prompt: "Leave out",
  view_stride: "Stride of views",
  view_weights: "Weights of views",
  shift_views: "Shift views",
  guidance_rescale: "Guidance rescale",
  guidance_start: "Guidance starts",
  guidance_end: "Guidance ends",
  prompt_syntax: "Prompt syntax",
  clip_skip: "Skipped text layers",
};
const PLACEHOLDERS = { seed: "random", prompt: "Snowy mountains above a lake at sunset…" };
const DRAFT = "panoramas-draft";

/** A property of the schema with its references resolved, and whether it may be null. */
function fieldType(property, schemas) {
  const resolved = (part) => (part.$ref ? schemas[part.$ref.split("/").pop()] : part);
  const parts = (property.anyOf ?? property.allOf ?? [property]).map(resolved);
  const own = parts.find((part) => part.type !== "null") ?? {};
  return { ...own, ...property, type: own.type, enum: own.enum, nullable: parts.some((part) => part.type === "null") };
}

export class Form {
  #fields = new Map();
  #models;

  constructor(form, schemas, models, onSubmit) {
    this.form = form;
    this.#models = models;
    const request = schemas.PanoramaRequest;
    for (const [name, property] of Object.entries(request.properties)) {
      const kind = fieldType(property, schemas);
      if (!kind.type || kind.type === "object" || NOT_SHOWN.includes(name)) continue;
      if (name === "model") kind.enum = models.items.filter((model) => !model.unavailable).map((model) => model.name);
      if (name === "model" && kind.enum.length < 2) continue;
      this.#fields.set(name, this.#field(name, kind, request.required?.includes(name)));
    }
    this.#arrange();
    this.#restore();
    this.#adapt();
    form.addEventListener("input", () => (this.#adapt(), this.#keep()));
    form.addEventListener("submit", (event) => (event.preventDefault(), onSubmit()));
  }

  /** The request, without empty fields. Null if a field is not valid. */
  read() {
    this.fault([]);
    const values = {};
    const faults = [];
    for (const [name, { input, kind }] of this.#fields) {
      if (input.validity.badInput) faults.push({ pointer: `#/${name}`, detail: "must be a number" });
      else if (kind.type === "boolean") {
        if (input.checked || !kind.nullable) values[name] = input.checked; // an unchecked nullable box leaves the value to the preset or default
      } else if (input.value !== "") values[name] = ["integer", "number"].includes(kind.type) ? Number(input.value) : input.value;
    }
    if (faults.length) this.fault(faults);
    return faults.length ? null : values;
  }

  /** Fill the form with a job's input. */
  write(values) {
    for (const [name, { input, kind }] of this.#fields) {
      const value = name in values ? values[name] : kind.default;
      if (kind.type === "boolean") input.checked = Boolean(value);
      else input.value = value ?? "";
    }
    this.#adapt();
    this.#keep();
  }

  /** Show each problem beside its field and focus the first. Returns the problems that belong to no field. */
  fault(faults) {
    const rest = [];
    for (const field of this.#fields.values()) {
      field.fault.textContent = "";
      field.input.removeAttribute("aria-invalid");
    }
    let first = null;
    for (const { pointer, detail } of faults) {
      const field = this.#fields.get(pointer.split("/")[1]);
      if (!field) {
        rest.push(`${pointer.replace(/^#\/?/, "")} ${detail}`.trim());
        continue;
      }
      field.fault.textContent = [field.fault.textContent, detail].filter(Boolean).join("; ");
      field.input.setAttribute("aria-invalid", "true");
      first ??= field.input;
    }
    if (first?.closest("details")) first.closest("details").open = true;
    first?.focus();
    return rest;
  }

  busy(yes) {
    this.button.setAttribute("aria-disabled", yes);
  }

  #field(name, kind, required) {
    const id = name === "prompt" ? "prompt" : `field-${name}`;
    const fault = h("p", { class: "fault", id: `${id}-fault` });
    const hint = kind.description && !SIZE.includes(name) && !FRONT.includes(name) && kind.description.split(";")[0];
    const described = `${id}-fault${hint ? ` ${id}-hint` : ""}`;
    const input = this.#input(kind, { id, name, "aria-describedby": described, "aria-required": required });
    if (kind.default != null && kind.type !== "boolean") input.value = kind.default;
    if (kind.type === "boolean") input.checked = Boolean(kind.default);
    if (PLACEHOLDERS[name]) input.placeholder = PLACEHOLDERS[name];
    const label = h("label", { for: id }, LABELS[name] ?? kind.title);
    const parts = kind.type === "boolean" ? [h("span", { class: "check" }, input, label)] : [label, input];
    const element = h("div", { class: `field ${kind.type}`, "data-field": name },
      ...parts, hint && h("p", { class: "hint", id: `${id}-hint` }, hint), fault);
    return { element, input, kind, fault, label };
  }

  #input(kind, attributes) {
    if (kind.enum) {
      const options = kind.enum.map((value) => h("option", { value }, value));
      return h("select", attributes, kind.nullable && h("option", { value: "" }, "default"), options);
    }
    if (kind.type === "boolean") return h("input", { ...attributes, type: "checkbox" });
    if (kind.type === "string") {
      const long = kind.maxLength > 500;
      return h(long ? "textarea" : "input", { ...attributes, maxlength: kind.maxLength, rows: long && 2 });
    }
    const { minimum, maximum } = kind;
    const step = kind.type === "integer" ? 1 : "any";
    return h("input", { ...attributes, type: "number", inputmode: "decimal", min: minimum, max: maximum, step });
  }

  #arrange() {
    const of = (name) => this.#fields.get(name)?.element;
    this.button = h("button", { type: "submit", class: "primary paint" }, "Paint");
    this.shapes = h("div", { class: "shapes", role: "group", "aria-label": "Shape" });
    const named = new Set([...FRONT, ...SIZE]);
    const rest = [...this.#fields].filter(([name]) => !named.has(name)).map(([, field]) => field.element);
    const [, ...others] = FRONT;
    const prompt = this.#fields.get("prompt");
    prompt.label.className = "unseen";
    prompt.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    this.form.replaceChildren(
      h("div", { class: "ask" }, prompt.element, this.button),
      h("div", { class: "front" },
        h("div", { class: "size" }, this.shapes, h("div", { class: "sides" }, of("width"), h("span", { "aria-hidden": true }, "×"), of("height"))),
        others.map(of)),
      h("details", {}, h("summary", {}, "More settings"), h("div", { class: "rest" }, rest)),
      h("p", { class: "fault", id: "form-fault", role: "alert" }),
    );
  }

  /** Show the chosen model's defaults and sizes in the fields. */
  #adapt() {
    const chosen = this.#fields.get("model")?.input.value;
    const model = this.#models.items.find((item) => (chosen ? item.name === chosen : item.default));
    if (!model || model.unavailable) return;
    for (const [name, { input, kind }] of this.#fields) {
      const value = name === "model" ? this.#models.items.find((item) => item.default).name : model.defaults[name];
      const empty = kind.nullable && input.querySelector?.("option[value='']");
      if (empty) empty.textContent = value ?? "default";
      else if (value != null) input.placeholder = value;
      if (this.#models.limits[name]) input.max = this.#models.limits[name];
      if (SIZE.includes(name)) Object.assign(input, { min: model.window_px, step: model.latent_factor });
    }
    this.#offerShapes(model);
  }

  /** Buttons for canvases two, four and eight views wide, up to the server's limit. */
  #offerShapes(model) {
    const [width, height] = SIZE.map((name) => this.#fields.get(name).input);
    const side = model.window_px;
    const ratios = [2, 4, 8].filter((ratio) => ratio * side <= this.#models.limits.width);
    const sizes = ratios.map((ratio) => ({ ratio, size: [ratio * side, side] }));
    if (this.shapes.dataset.side !== String(side)) {
      this.shapes.dataset.side = side;
      this.shapes.replaceChildren(
        ...sizes.map(({ ratio, size }) =>
          h("button", { type: "button", title: size.join(" × "), "data-size": size, onclick: () => {
            [width.value, height.value] = size;
            this.form.dispatchEvent(new Event("input"));
          } }, h("i", { class: `shape-${ratio}`, "aria-hidden": true }), `${ratio}:1`)),
      );
    }
    for (const button of this.shapes.children) {
      button.setAttribute("aria-pressed", button.dataset.size === [width, height].map((side) => side.value || side.placeholder).join(","));
    }
  }

  /** Save the form, so that it survives a reload. */
  #keep() {
    const values = [...this.#fields].map(([name, { input }]) => [name, input.type === "checkbox" ? input.checked : input.value]);
    sessionStorage.setItem(DRAFT, JSON.stringify(Object.fromEntries(values)));
  }

  #restore() {
    const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
    if (draft) this.write(draft);
  }
}
