// Draws one annotation session and sends the rater's commands. Everything that is shown comes from Python, where it is
// already on the disk. Text of models is inserted as text only.

const PATIENCE_MS = 5000; // how long a command may take before the rater is told that nothing was saved
const QUIET_MS = 250; // shorter waits are not worth a word

const SUPPRESS = "data-lm-suppress-shortcuts"; // JupyterLab's keys pass an element that has it
const FOCUSABLE = "button, input, textarea, [tabindex]";

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

function button(label, key, act, className = "") {
  const made = make("button", { type: "button", class: className }, make("span", {}, label));
  if (key) {
    made.prepend(make("kbd", { "aria-hidden": "true" }, key));
    made.setAttribute("aria-keyshortcuts", { "←": "ArrowLeft", "→": "ArrowRight" }[key] ?? key);
  }
  made.addEventListener("click", act);
  return made;
}

class Annotation {
  constructor(model, host) {
    this.model = model;
    this.pending = false;
    this.timers = [];
    this.build(host);
    this.update();
  }

  get view() {
    return this.model.get("view");
  }

  // -- building, once

  build(host) {
    const send = (command) => () => this.send(command);
    this.rater = make("input", { type: "text", maxlength: "40", spellcheck: "false", autocomplete: "off" });
    this.rater.addEventListener("change", () => this.send("rater", this.rater.value));
    this.count = make("span", { class: "ws-count" });
    this.bar = make("div", { class: "ws-bar", role: "progressbar", "aria-label": "Judged", "aria-valuemin": "0" }, make("i"));
    this.heading = make("span", { class: "ws-heading" });
    this.mark = make("span", { class: "ws-mark" });
    this.prompt = make("p", { class: "ws-prompt", dir: "auto" });
    this.answers = make("div", { class: "ws-answers" });
    this.scale = make("div", { class: "ws-scale", role: "group", "aria-label": "Your verdict" });
    this.comment = make("textarea", { rows: "1", maxlength: "2000", dir: "auto", "aria-label": "Comment" });
    this.comment.addEventListener("input", () => this.drawDraft());
    this.draft = make("span", { class: "ws-draft" });
    this.previous = button("Previous", "←", send("previous"));
    this.next = button("Next", "→", send("next"));
    this.skip = button("Skip", "S", send("skip"));
    this.undo = button("Undo", "U", send("undo"));
    this.status = make("span", { class: "ws-status", role: "status", "aria-live": "polite" });
    this.problem = make("p", { class: "ws-problem", role: "alert" });
    this.end = make("div", { class: "ws-end" });
    this.revealed = make("div", { class: "ws-revealed", tabindex: "0", role: "region", "aria-label": "Result" });
    this.judging = make(
      "div",
      { class: "ws-judging" },
      make("div", { class: "ws-line" }, this.heading, this.mark),
      this.prompt,
      this.answers,
      this.scale,
      make("label", { class: "ws-comment" }, make("kbd", { "aria-hidden": "true" }, "C"), this.comment, this.draft),
    );
    this.root = make(
      "div",
      { class: "ws-annotation", tabindex: "0", role: "group", "aria-label": "Judging answers" },
      make(
        "header",
        {},
        make("label", { class: "ws-rater" }, make("span", {}, "Rater"), this.rater),
        make("div", { class: "ws-progress" }, this.bar, this.count),
      ),
      this.judging,
      this.end,
      this.revealed,
      this.problem,
      make(
        "footer",
        {},
        make("div", { class: "ws-buttons" }, this.previous, this.next, this.skip, this.undo),
        this.status,
        make("span", { class: "ws-hint" }, "Click here or press Tab to use the keys"),
      ),
    );
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    host.append(this.root);
  }

  buildScale(view) {
    const made = view.scale.map((each) => {
      const one = button(each.name, each.key, () => this.send("judge", each.value), "ws-verdict");
      one.append(make("small", {}, each.meaning));
      one.dataset.value = each.value;
      return one;
    });
    this.scale.replaceChildren(...made);
    this.scale.dataset.mode = view.mode;
    this.comment.placeholder = "Comment, if you like";
  }

  buildAnswers(view) {
    const made = view.answers.map((text, place) => {
      const name = view.mode === "rubric" ? "Answer" : `Answer ${"AB"[place]}`;
      const body = make("div", { class: "ws-text", dir: "auto", tabindex: "0", role: "region", "aria-label": name });
      body.append(...marked(text, view.invented[place]));
      const panel = make("section", { class: "ws-answer" }, body);
      if (view.mode === "pairwise") panel.prepend(make("b", { class: "ws-side", "aria-hidden": "true" }, "AB"[place]));
      return panel;
    });
    this.answers.replaceChildren(...made);
  }

  // -- drawing what Python said

  update() {
    const view = this.view;
    this.settle();
    const moved = view.position !== this.position || view.rater !== this.whose || view.stage !== this.stage;
    const focused = this.root.contains(this.root.ownerDocument.activeElement);
    if (this.scale.dataset.mode !== view.mode) this.buildScale(view);
    if (moved) this.buildAnswers(view);
    if (moved || this.saved !== view.comment) this.comment.value = view.comment;
    this.saved = view.comment;
    this.position = view.position;
    this.whose = view.rater;
    this.stage = view.stage;
    this.drawProgress(view);
    this.drawItem(view);
    this.drawEnd(view);
    this.drawDraft();
    write(this.status, view.said);
    this.status.classList.toggle("ws-saved", view.said.startsWith("Saved"));
    write(this.problem, view.problem);
    show(this.problem, view.problem !== "");
    const active = this.root.ownerDocument.activeElement;
    const lost = focused && (!this.root.contains(active) || active.closest("[hidden]"));
    if (lost) this.root.focus({ preventScroll: true });
    this.root.dataset.turn = view.turn; // last: whoever sees it sees all of this view
  }

  drawProgress(view) {
    if (this.root.ownerDocument.activeElement !== this.rater || !view.problem) this.rater.value = view.rater;
    const skipped = view.skipped ? `, ${view.skipped} skipped` : "";
    write(this.count, `${view.judged} of ${view.total}${skipped}`);
    this.bar.setAttribute("aria-valuemax", view.total);
    this.bar.setAttribute("aria-valuenow", view.judged);
    this.bar.setAttribute("aria-valuetext", `${view.judged} of ${view.total} judged${skipped}`);
    this.bar.firstChild.style.width = `${view.total ? (100 * view.judged) / view.total : 0}%`;
  }

  drawItem(view) {
    const here = view.stage === "item";
    show(this.judging, here);
    write(this.heading, here ? `${view.mode === "rubric" ? "Answer" : "Pair"} ${view.position + 1} of ${view.total}` : "");
    const given = view.scale.find((each) => each.value === view.verdict);
    const words = view.verdict === "skip" ? "no verdict yet" : given ? `your verdict: ${given.name}` : "";
    write(this.mark, words);
    write(this.prompt, view.prompt);
    for (const each of this.scale.children) each.setAttribute("aria-pressed", String(each.dataset.value === view.verdict));
    show(this.skip, here);
    show(this.next, view.stage !== "revealed" && view.stage !== "empty");
    show(this.previous, view.stage !== "revealed" && view.stage !== "empty");
    show(this.undo, view.stage !== "revealed" && view.stage !== "empty");
    this.previous.disabled = view.position === 0;
    this.next.disabled = !here;
    this.undo.disabled = view.judged + view.skipped === 0;
  }

  drawEnd(view) {
    show(this.end, view.stage === "end" || view.stage === "empty");
    show(this.revealed, view.stage === "revealed");
    if (view.stage === "empty") this.end.replaceChildren(make("p", {}, "This run holds no answers to judge."));
    if (view.stage === "end") this.end.replaceChildren(...this.endOf(view));
    if (view.stage === "revealed") this.revealed.replaceChildren(...this.tablesOf(view));
  }

  endOf(view) {
    const open = view.total - view.judged - view.skipped;
    const words = view.finished ? "All answers are judged. Thank you." : `This is the end; ${open} of ${view.total} are still open.`;
    const parts = [make("p", { class: "ws-done" }, words)];
    if (view.skipped) {
      const some = view.skipped === 1 ? "the skipped one" : `the ${view.skipped} skipped ones`;
      parts.push(button(`Look at ${some} again`, "S", () => this.send("skipped")));
    }
    if (view.finished) {
      parts.push(button("Reveal the models", "R", () => this.send("reveal"), "ws-main"));
      parts.push(make("p", { class: "ws-note" }, "After that, this session takes no more verdicts."));
    }
    return parts;
  }

  tablesOf(view) {
    const shown = view.revealed;
    const verdict = view.mode === "rubric" ? "Grade" : "Better";
    return [
      table("Models", shown.headings, shown.models),
      table("Answers", ["Question", "Answer", "Model", verdict], shown.answers),
    ];
  }

  drawDraft() {
    const changed = this.comment.value.trim() !== this.saved;
    this.root.classList.toggle("ws-unsaved", changed);
    write(this.draft, changed ? "Enter saves it" : this.saved ? "saved" : "");
    this.comment.rows = Math.min(4, this.comment.value.split("\n").length);
  }

  // -- commands

  send(command, value = null) {
    if (this.pending) return;
    const message = { turn: this.view.turn, command, value };
    const typed = this.comment.value;
    if (["judge", "skip"].includes(command) && typed.trim() !== this.saved) message.comment = typed;
    this.pending = true;
    this.timers = [
      setTimeout(() => this.wait(), QUIET_MS),
      setTimeout(() => this.giveUp(), PATIENCE_MS),
    ];
    this.model.send(message);
  }

  settle() {
    this.pending = false;
    this.timers.forEach(clearTimeout);
    this.timers = [];
  }

  wait() {
    this.status.classList.remove("ws-saved");
    write(this.status, "Saving …");
  }

  giveUp() {
    this.settle();
    write(this.status, "");
    write(
      this.problem,
      "Not saved: Python does not answer. If it is busy, wait and press again. If it was restarted, reload this page " +
        "and run the cell again: everything that was shown as saved is there.",
    );
    show(this.problem, true);
  }

  onKey(event) {
    if (event.target === this.comment) return this.onCommentKey(event);
    if (event.target === this.rater) return this.onRaterKey(event);
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target === this.root && this.scroll(event.key)) return event.preventDefault();
    const act = this.actOf(event.key);
    if (!act) return;
    event.preventDefault();
    if (!event.repeat) act();
  }

  /** Move what is longer than its box; true if there was anything to move. */
  scroll(key) {
    const by = { ArrowDown: 40, ArrowUp: -40, PageDown: 240, PageUp: -240 }[key];
    const boxes = [...this.root.querySelectorAll(".ws-text, .ws-revealed")];
    const long = by ? boxes.filter((each) => each.scrollHeight > each.clientHeight) : [];
    long.forEach((each) => each.scrollBy(0, by));
    return long.length > 0;
  }

  actOf(key) {
    const view = this.view;
    const wanted = key.length === 1 ? key.toUpperCase() : key;
    const here = view.stage === "item";
    const verdict = here && view.scale.find((each) => each.key === wanted);
    if (verdict) return () => this.send("judge", verdict.value);
    const on = {
      ArrowLeft: () => this.send("previous"),
      ArrowRight: () => this.send("next"),
      U: () => this.send("undo"),
      S: () => this.send(here ? "skip" : "skipped"),
      C: () => here && this.comment.focus(),
      R: () => view.stage === "end" && view.finished && this.send("reveal"),
    };
    return view.stage === "revealed" || view.stage === "empty" ? undefined : on[wanted];
  }

  onCommentKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (this.comment.value.trim() !== this.saved) this.send("comment", this.comment.value);
      this.root.focus({ preventScroll: true });
    } else if (event.key === "Escape") {
      this.comment.value = this.saved;
      this.drawDraft();
      this.root.focus({ preventScroll: true });
    }
  }

  onRaterKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter") this.root.focus({ preventScroll: true });
    if (event.key === "Escape") {
      this.rater.value = this.view.rater;
      this.root.focus({ preventScroll: true });
    }
  }
}

/** Text with the places underlined that Python found to be invented; both count whole characters. */
function marked(text, places) {
  const letters = Array.from(text);
  const part = (start, end) => letters.slice(start, end).join("");
  const pieces = places.map(([start, end], at) => [
    part(places[at - 1]?.[1] ?? 0, start),
    make("u", { title: "not in the notes" }, part(start, end)),
  ]);
  return [...pieces.flat(), part(places.at(-1)?.[1] ?? 0)];
}

function table(caption, headings, rows) {
  const head = make("tr", {}, ...headings.map((each) => make("th", { scope: "col" }, each)));
  const body = rows.map((row) => make("tr", {}, ...row.map((each) => make("td", { dir: "auto" }, each))));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
}

function render({ model, el }) {
  const annotation = new Annotation(model, el);
  const update = () => annotation.update();
  // saving the notebook is always allowed; this listener comes before JupyterLab's
  const allowSaving = (event) => {
    if (!annotation.root.contains(event.target)) return;
    const saves = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    for (const each of [annotation.root, event.target]) each.toggleAttribute(SUPPRESS, !saves);
  };
  model.on("change:view", update);
  window.addEventListener("keydown", allowSaving, true);
  return () => {
    model.off("change:view", update);
    window.removeEventListener("keydown", allowSaving, true);
    annotation.settle();
  };
}

export default { render };
