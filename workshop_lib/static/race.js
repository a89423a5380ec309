// Draws a race as Python tells it, live, and plays a finished one again, slower if that is needed to see it. Every figure
// comes from Python. Text of models is inserted as text only.

const PATIENCE_MS = 5000; // how long Python may be silent after a command before the reader is told
const SUPPRESS = "data-lm-suppress-shortcuts"; // JupyterLab's keys pass an element that has it
const FOCUSABLE = "button, input, select, [tabindex]";
const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes by name, text only as text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  // on the focused element itself: JupyterLab's selectors match it before its parents are looked at
  if (element.matches(FOCUSABLE)) element.setAttribute(SUPPRESS, "true");
  element.append(...children);
  return element;
}

/** Change a text only if it differs, so that a screen reader says it once and a selection stays. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show(element, visible) {
  element.hidden = !visible;
}

function button(label, key, act) {
  const made = make("button", { type: "button", "aria-keyshortcuts": key });
  made.append(make("kbd", { "aria-hidden": "true" }, key), make("span", {}, label));
  made.addEventListener("click", act);
  return made;
}

/** One lane: a name, the answer so far, a stroke per arrival on the common clock, and figures. */
class Lane {
  constructor(name) {
    this.name = make("b", { class: "wr-name", dir: "auto" }, name);
    this.status = make("span", { class: "wr-state" });
    this.text = make("div", { class: "wr-text", dir: "auto", tabindex: "0", role: "region", "aria-label": `Answer of ${name}` });
    this.strokes = document.createElementNS(SVG, "path");
    const strip = document.createElementNS(SVG, "svg");
    for (const [key, value] of Object.entries({ class: "wr-strip", viewBox: "0 0 1000 10", preserveAspectRatio: "none" }))
      strip.setAttribute(key, value);
    strip.setAttribute("aria-hidden", "true");
    strip.append(this.strokes);
    this.figures = make("dl", { class: "wr-figures" });
    this.error = make("p", { class: "wr-error" });
    this.root = make(
      "section",
      { class: "wr-lane", "aria-label": name },
      make("div", { class: "wr-head" }, this.name, this.status),
      this.text,
      strip,
      this.figures,
      this.error,
    );
  }

  /** Draw the lane at a moment: `now` says how far it is, `lane` what never changes, `length_s` the clock's end. */
  draw(lane, now, length_s, text) {
    const follow = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 4;
    write(this.text, text);
    if (follow && !now.ended) this.text.scrollTop = this.text.scrollHeight;
    write(this.status, now.status);
    this.status.classList.toggle("wr-first", now.place === 1);
    this.status.classList.toggle("wr-wrong", now.wrong);
    const seen = lane.strokes.filter((at_s) => at_s <= now.at_s || now.ended);
    const place = (at_s) => (length_s ? (998 * at_s) / length_s + 1 : 1);
    this.strokes.setAttribute("d", seen.map((at_s) => `M${place(at_s).toFixed(1)} 0V10`).join(""));
    this.drawFigures(now.figures);
    write(this.error, now.ended ? lane.error : "");
    show(this.error, this.error.textContent !== "");
  }

  drawFigures(figures) {
    if (this.figures.childElementCount !== figures.length)
      this.figures.replaceChildren(
        ...figures.map(([label]) => make("div", {}, make("dt", {}, label), make("dd", {}))),
      );
    figures.forEach(([, value], place) => write(this.figures.children[place].lastChild, value));
  }
}

class Race {
  constructor(model, host) {
    this.model = model;
    this.lanes = [];
    this.timer = null;
    this.playing = null;
    this.build(host);
    this.update();
  }

  get view() {
    return this.model.get("view");
  }

  // -- building, once

  build(host) {
    this.prompt = make("p", { class: "wr-prompt", dir: "auto", tabindex: "0", role: "region", "aria-label": "Question" });
    this.why = make("p", { class: "wr-why" });
    this.track = make("div", { class: "wr-track" });
    this.note = make("p", { class: "wr-note" });
    this.again = button("Race again", "A", () => this.race());
    this.replay = button("Replay", "R", () => this.play());
    this.toEnd = button("To the end", "E", () => this.stop());
    this.ways = make("span", { class: "wr-ways", role: "radiogroup", "aria-label": "How they race" });
    this.speed = make("select", { "aria-label": "Speed of the replay" });
    this.speed.addEventListener("change", () => this.play());
    this.status = make("div", { class: "wr-said", role: "status", "aria-live": "polite" });
    this.problem = make("p", { class: "wr-problem", role: "alert" });
    this.root = make(
      "div",
      { class: "ws-race", tabindex: "0", role: "group", "aria-label": "Race between models" },
      this.prompt,
      this.why,
      this.track,
      this.note,
      this.status,
      this.problem,
      make(
        "footer",
        {},
        make("div", { class: "wr-buttons" }, this.again, this.ways),
        make("div", { class: "wr-buttons" }, this.replay, this.toEnd, this.speed),
      ),
    );
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    host.append(this.root);
  }

  buildLanes(view) {
    this.lanes = view.lanes.map((lane) => new Lane(lane.name));
    this.track.replaceChildren(...this.lanes.map((lane) => lane.root));
  }

  buildWays(view) {
    const group = `wr-${Math.random()}`;
    const made = Object.entries(view.ways).map(([value, label]) => {
      const input = make("input", { type: "radio", name: group, value });
      input.checked = value === view.turns;
      return make("label", {}, input, make("span", {}, label));
    });
    this.ways.replaceChildren(...made);
  }

  buildSpeeds(replay) {
    const label = (factor) => (factor === 1 ? "true speed" : `${factor.toLocaleString("en")} times slower`);
    const made = replay.factors.map((factor) => make("option", { value: factor }, label(factor)));
    this.speed.replaceChildren(...made);
    this.speed.value = replay.factor;
  }

  // -- drawing what Python said

  update() {
    const view = this.view;
    clearTimeout(this.timer);
    this.halt();
    const names = view.lanes.map((lane) => lane.name).join("\n");
    if (names !== this.names) this.buildLanes(view);
    this.names = names;
    if (!this.ways.childElementCount) this.buildWays(view);
    write(this.prompt, view.prompt);
    write(this.why, view.why);
    write(this.problem, "");
    show(this.problem, false);
    const over = view.stage === "over";
    for (const each of [this.replay, this.speed]) show(each, over && view.replay !== null);
    write(this.again.lastChild, view.stage === "ready" ? "Start the race" : "Race again");
    this.again.disabled = view.stage === "running";
    for (const input of this.ways.querySelectorAll("input")) input.disabled = view.stage === "running";
    if (over && view.replay) this.buildSpeeds(view.replay);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (over && view.replay?.by_itself && !still) this.play();
    else this.drawNow();
    this.root.dataset.stage = view.stage; // last: whoever sees it sees all of this view
    this.root.dataset.turn = view.turn;
  }

  /** Draw the lanes as they are now, or as they were at the end. */
  drawNow() {
    const view = this.view;
    view.lanes.forEach((lane, place) => this.lanes[place].draw(lane, { ...lane, at_s: Infinity }, view.length_s, lane.text));
    const live = view.stage === "running";
    const strokes = `Each stroke is a piece of text that arrived, on one clock from 0 to ${clock(view.length_s, view.length_s)}.`;
    write(this.note, live ? "Live: text is shown as it arrives." : view.length_s ? strokes : "");
    this.say(live ? ["The race is running."] : view.said);
    show(this.toEnd, false);
    this.root.dataset.playing = "";
  }

  say(sentences) {
    if (sentences.join("\n") === this.spoken) return;
    this.spoken = sentences.join("\n");
    this.status.replaceChildren(...sentences.map((each) => make("p", {}, each)));
  }

  // -- playing a finished race again

  play() {
    const { replay, length_s } = this.view;
    if (this.view.stage !== "over" || !replay) return;
    this.halt();
    const factor = Number(this.speed.value);
    const letters = this.view.lanes.map((lane) => Array.from(lane.text)); // as Python counts them
    const began = performance.now();
    show(this.toEnd, true);
    this.say([]);
    this.root.dataset.playing = String(factor);
    const step = (now) => {
      const at_s = Math.max(0, now - began) / 1000 / factor;
      if (at_s >= length_s) return this.stop();
      this.drawAt(at_s, factor, letters);
      this.playing = requestAnimationFrame(step);
    };
    step(began);
  }

  drawAt(at_s, factor, letters) {
    const { lanes, replay, length_s } = this.view;
    lanes.forEach((lane, place) => {
      const now = replay.frames[place].findLast((frame) => frame.at_s <= at_s);
      this.lanes[place].draw(lane, now, length_s, letters[place].slice(0, now.letters).join(""));
    });
    const speed = factor === 1 ? "Replay at true speed" : `Slow motion, ${factor.toLocaleString("en")} times slower than it happened`;
    write(this.note, `${speed}: ${clock(at_s, length_s)} of ${clock(length_s, length_s)}. The figures are the real ones.`);
  }

  /** End the replay and show how the race ended. */
  stop() {
    const focused = this.toEnd === this.root.ownerDocument.activeElement;
    this.halt();
    this.drawNow();
    if (focused) this.root.focus({ preventScroll: true });
  }

  halt() {
    if (this.playing !== null) cancelAnimationFrame(this.playing);
    this.playing = null;
  }

  // -- commands

  race() {
    if (this.again.disabled) return;
    const turns = this.ways.querySelector("input:checked")?.value;
    this.again.disabled = true;
    this.timer = setTimeout(() => this.giveUp(), PATIENCE_MS);
    this.model.send({ command: "race", turn: this.view.turn, turns });
  }

  giveUp() {
    this.again.disabled = false;
    write(
      this.problem,
      "Python does not answer. If it is busy, the race starts when it is free. If it was restarted, run the cell again.",
    );
    show(this.problem, true);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.target.matches("select")) return;
    const on = {
      A: () => this.race(),
      R: () => this.play(),
      E: () => this.root.dataset.playing && this.stop(),
    };
    const act = on[event.key.toUpperCase()];
    if (!act) return;
    event.preventDefault();
    if (!event.repeat) act();
  }
}

/** A moment in the unit of the whole race. */
function clock(at_s, length_s) {
  return length_s < 1 ? `${(1000 * at_s).toFixed(1)} ms` : `${at_s.toFixed(1)} s`;
}

function render({ model, el }) {
  const race = new Race(model, el);
  const update = () => race.update();
  // saving the notebook is always allowed; this listener comes before JupyterLab's
  const allowSaving = (event) => {
    if (!race.root.contains(event.target)) return;
    const saves = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    for (const each of [race.root, event.target]) each.toggleAttribute(SUPPRESS, !saves);
  };
  model.on("change:view", update);
  window.addEventListener("keydown", allowSaving, true);
  return () => {
    model.off("change:view", update);
    window.removeEventListener("keydown", allowSaving, true);
    clearTimeout(race.timer);
    race.halt();
  };
}

export default { render };
