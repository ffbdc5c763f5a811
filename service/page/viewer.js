/** Pan and zoom in a wide picture by dragging, wheel, pinching and keys. A circular picture repeats without end. */

const MAX_SCALE = 6; // CSS pixels for each picture pixel
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const clamp = (value, low, high) => (low > high ? (low + high) / 2 : Math.min(Math.max(value, low), high));

export class Viewer {
  #image = null;
  #circular = false;
  #x = 0; // the picture's point in the middle of the element, in picture pixels
  #y = 0;
  #scale = 1; // CSS pixels for each picture pixel
  #fitted = true; // until the user zooms, a change of size keeps the height filled
  #pointers = new Map();
  #speed = { x: 0, y: 0, at: 0 };
  #frame = 0;
  #scrolled = 0;

  constructor(element, canvas, fullElement) {
    this.element = element;
    this.canvas = canvas;
    this.fullElement = fullElement;
    new ResizeObserver(() => this.#resized()).observe(element);
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (event) => this.#up(event));
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("dblclick", (event) => this.zoom(2, ...this.#point(event)));
    element.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("fullscreenchange", () => this.#resized());
    addEventListener("scroll", () => (this.#scrolled = performance.now()), { passive: true });
  }

  /** Show a loaded image, centred. */
  show(image, circular) {
    this.#stop();
    this.#image = image;
    this.#circular = circular;
    this.#x = image.naturalWidth / 2;
    this.#y = image.naturalHeight / 2;
    this.#fitted = true;
    this.#resized();
  }

  /** Zoom about a point of the element, by default its middle. */
  zoom(factor, x = this.#size.width / 2, y = this.#size.height / 2) {
    this.#stop();
    const { width, height } = this.#size;
    const scale = clamp(this.#scale * factor, this.#least, MAX_SCALE);
    this.#x += (x - width / 2) * (1 / this.#scale - 1 / scale);
    this.#y += (y - height / 2) * (1 / this.#scale - 1 / scale);
    this.#scale = scale;
    this.#fitted = false;
    this.#draw();
  }

  /** Zoom out to the whole picture. */
  whole() {
    this.zoom(this.#least / this.#scale);
  }

  /** Toggle full screen. Browsers without full screen (phones) fill the window instead. */
  async full() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (this.fullElement.requestFullscreen) await this.fullElement.requestFullscreen();
    else this.fullElement.classList.toggle("filling");
    this.element.focus({ preventScroll: true });
  }

  get #size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  get #least() {
    const { width, height } = this.#size;
    return Math.min(width / this.#image.naturalWidth, height / this.#image.naturalHeight);
  }

  #resized() {
    if (!this.#image || !this.#size.width) return;
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.#size.width * ratio);
    this.canvas.height = Math.round(this.#size.height * ratio);
    const { width, height } = this.#size;
    const fill = Math.max(height / this.#image.naturalHeight, this.#circular ? 0 : width / this.#image.naturalWidth);
    this.#scale = this.#fitted ? fill : Math.max(this.#scale, this.#least);
    this.#draw();
  }

  /** Draw at the next animation frame, so that many moves need one drawing. */
  #draw() {
    if (!this.#image) return;
    const { width, height } = this.#size;
    const { naturalWidth: w, naturalHeight: h } = this.#image;
    const [halfWidth, halfHeight] = [width / 2 / this.#scale, height / 2 / this.#scale];
    this.#x = this.#circular ? ((this.#x % w) + w) % w : clamp(this.#x, halfWidth, w - halfWidth);
    this.#y = clamp(this.#y, halfHeight, h - halfHeight);
    // A vertical swipe scrolls the page, unless the picture itself can move vertically.
    this.element.style.touchAction = h * this.#scale > height + 1 ? "none" : "pan-y";
    Object.assign(this.element.dataset, { x: this.#x.toFixed(2), y: this.#y.toFixed(2), scale: this.#scale.toFixed(4) });
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #paint() {
    if (!this.#image) return;
    const context = this.canvas.getContext("2d", { alpha: false });
    const ratio = devicePixelRatio;
    const { naturalWidth: w, naturalHeight: h } = this.#image;
    const [scale, width, height] = [this.#scale * ratio, this.canvas.width, this.canvas.height];
    context.fillStyle = "#0d0e12";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    const top = Math.round(height / 2 - this.#y * scale);
    const bottom = Math.round(height / 2 + (h - this.#y) * scale);
    let left = width / 2 - this.#x * scale;
    if (this.#circular) left -= Math.ceil(left / (w * scale)) * w * scale;
    do {
      // Both edges are rounded from the same numbers, so there is no gap between copies.
      const [from, to] = [Math.round(left), Math.round(left + w * scale)];
      context.drawImage(this.#image, from, top, to - from, bottom - top);
      left += w * scale;
    } while (this.#circular && left < width);
    this.#paintPosition(context, width, height, width / (w * scale), ratio);
  }

  /** Draw a thin bar at the bottom that shows the visible part. */
  #paintPosition(context, width, height, share, ratio) {
    if (share > 0.995) return;
    const [length, thickness, bottom] = [Math.min(160 * ratio, width / 3), 3 * ratio, height - 12 * ratio];
    const from = width / 2 - length / 2;
    context.fillStyle = "#fff5";
    context.fillRect(from, bottom, length, thickness);
    context.fillStyle = "#fff";
    let start = this.#x / this.#image.naturalWidth - share / 2;
    start -= Math.floor(start);
    context.fillRect(from + start * length, bottom, Math.min(share, 1 - start) * length, thickness);
    context.fillRect(from, bottom, Math.max(0, start + share - 1) * length, thickness);
  }

  #point(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #pan(x, y) {
    this.#x -= x / this.#scale;
    this.#y -= y / this.#scale;
    this.#draw();
  }

  #down(event) {
    if (event.button) return;
    this.#stop();
    this.element.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#point(event));
    this.#speed = { x: 0, y: 0, at: event.timeStamp };
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#point(event);
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.#pointers.set(event.pointerId, now);
    const [x, y] = [now[0] - before[0], now[1] - before[1]];
    if (others.length) {
      const distance = (place) => Math.hypot(place[0] - others[0][0], place[1] - others[0][1]);
      this.#pan(x / 2, y / 2);
      this.zoom(distance(now) / Math.max(distance(before), 1), (now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2);
      return;
    }
    const passed = Math.max(event.timeStamp - this.#speed.at, 1);
    this.#speed = { x: (x / passed) * 0.7 + this.#speed.x * 0.3, y: (y / passed) * 0.7, at: event.timeStamp };
    this.#pan(x, y);
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId) || this.#pointers.size) return;
    if (reducedMotion.matches || event.type === "pointercancel" || event.timeStamp - this.#speed.at > 60) return;
    this.#glide(performance.now());
  }

  /** Keep moving for a moment after a flick. */
  #glide(before) {
    this.gliding = requestAnimationFrame((now) => {
      const passed = Math.min(now - before, 50);
      const slower = Math.exp(-passed / 250);
      this.#speed.x *= slower;
      this.#speed.y *= slower;
      this.#pan(this.#speed.x * passed, this.#speed.y * passed);
      if (Math.hypot(this.#speed.x, this.#speed.y) > 0.02) this.#glide(now);
    });
  }

  #stop() {
    cancelAnimationFrame(this.gliding);
  }

  #wheel(event) {
    // Ignore the wheel while the user scrolls the page past the picture.
    if (!this.#image || performance.now() - this.#scrolled < 300) return;
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      event.preventDefault();
      this.#stop();
      this.#pan(-(event.deltaX || event.deltaY) * unit, 0);
    } else if (event.deltaY < 0 || this.#scale > this.#least * 1.001) {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0015)), ...this.#point(event));
    }
  }

  #key(event) {
    if (!this.#image || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = this.#size.width / (event.shiftKey ? 2 : 10);
    const actions = {
      ArrowLeft: () => this.#pan(far, 0),
      ArrowRight: () => this.#pan(-far, 0),
      ArrowUp: () => this.#pan(0, far),
      ArrowDown: () => this.#pan(0, -far),
      Home: () => this.#pan((this.#x * this.#scale), 0),
      End: () => this.#pan((this.#x - this.#image.naturalWidth) * this.#scale, 0),
      "+": () => this.zoom(1.25),
      "=": () => this.zoom(1.25),
      "-": () => this.zoom(0.8),
      0: () => this.whole(),
      f: () => this.full(),
      F: () => this.full(),
    };
    if (event.key === "Escape") return this.fullElement.classList.remove("filling");
    if (!actions[event.key]) return;
    event.preventDefault();
    this.#stop();
    actions[event.key]();
  }
}
