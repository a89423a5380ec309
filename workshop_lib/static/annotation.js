// Draws one annotation session and sends the rater's commands. Everything that is shown comes from Python, where it is
// already on the disk. Text of models is inserted as text only.

const PATIENCE_MS = 5000; // how long a command may take before the rater is told that nothing was saved
const NOT_SAVED =
  "Not saved: Python does not answer. If it is busy, wait and press again. If it was restarted, reload this page " +
  "and run the cell again: everything that was shown as saved is there.";
const SUPPRESS = "data-lm-suppress-shortcuts"; // JupyterLab's keys pass an element that has it

const command = (name, key, shown, label, value = "") =>
  `<button type="button" data-command="${name}" data-value="${value}" aria-keyshortcuts="${key}">
    <kbd aria-hidden="true">${shown}</kbd>${label}</button>`;

const PAGE = `
  <header>
    <span>Rater: <b class="ws-rater"></b></span>
    <span><progress class="ws-bar" aria-label="Judged"></progress> <span class="ws-count"></span></span>
  </header>
  <div class="ws-judging">
    <p class="ws-heading"></p>
    <p class="ws-prompt" dir="auto" tabindex="0" role="region" aria-label="Question"></p>
    <div class="ws-answers"></div>
    <div class="ws-scale" role="group" aria-label="Your verdict"></div>
    <label><kbd aria-hidden="true">C</kbd><textarea class="ws-comment" rows="1" maxlength="2000" dir="auto"
      aria-label="Comment" aria-keyshortcuts="C" placeholder="Comment, if you like"></textarea>
      <span class="ws-draft"></span></label>
  </div>
  <div class="ws-end">
    <p class="ws-done"></p>
    ${command("skipped", "S", "S", "Look at what was skipped again")}
    ${command("reveal", "R", "R", "Reveal the models; after that, no more verdicts are taken")}
  </div>
  <div class="ws-revealed" tabindex="0" role="region" aria-label="Result"></div>
  <p class="ws-problem" role="alert"></p>
  <footer>
    <div class="ws-buttons">
      ${command("move", "ArrowLeft", "←", "Previous", -1)} ${command("move", "ArrowRight", "→", "Next", 1)}
      ${command("judge", "S", "S", "Skip")} ${command("undo", "U", "U", "Undo")}
    </div>
    <span class="ws-status" role="status"></span>
  </footer>`;

/** Make an element: attributes by name, text only as text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Change a text only if it differs, so that a screen reader says it once and a selection stays. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Text with the places underlined that Python found to be invented; both count whole characters. */
function marked(text, places) {
  const letters = Array.from(text);
  const pieces = [];
  let done = 0;
  for (const [start, end] of places) {
    const invented = make("u", { title: "not in the notes" }, letters.slice(start, end).join(""));
    pieces.push(letters.slice(done, start).join(""), invented);
    done = end;
  }
  return [...pieces, letters.slice(done).join("")];
}

function table({ caption, headings, rows }) {
  const line = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, { dir: "auto" }, cell)));
  const body = make("tbody", {}, ...rows.map((row) => line("td", row)));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, line("th", headings)), body);
}

function render({ model, el }) {
  const root = make("div", { class: "ws-annotation", tabindex: "0", role: "group", "aria-label": "Judging answers" });
  root.innerHTML = PAGE;
  const part = (name) => root.querySelector(`.ws-${name}`);
  const [previous, next, skip, undo] = part("buttons").children;
  const comment = part("comment");
  const focusHere = () => root.focus({ preventScroll: true });
  const view = () => model.get("view");
  let shown = {};
  let waiting = null;

  function drawItem(now) {
    const name = (place) => (now.mode === "rubric" ? "Answer" : `Answer ${"AB"[place]}`);
    const answers = now.answers.map((text, place) => {
      const label = { "aria-label": name(place), "data-side": now.mode === "rubric" ? "" : "AB"[place] };
      const box = { class: "ws-text", dir: "auto", tabindex: "0", role: "region" };
      return make("div", { ...box, ...label }, ...marked(text, now.invented[place]));
    });
    part("answers").replaceChildren(...answers);
  }

  function draw() {
    const now = view();
    const focused = root.contains(document.activeElement);
    const here = now.stage === "item";
    clearTimeout(waiting);
    waiting = null;
    const [skipped, reveal] = part("end").querySelectorAll("button");
    part("judging").hidden = skip.hidden = !here;
    part("end").hidden = here || now.stage === "revealed";
    part("revealed").hidden = now.stage !== "revealed";
    part("buttons").hidden = !here && now.stage !== "end";
    part("problem").hidden = now.problem === "";
    skipped.hidden = now.skipped === 0;
    reveal.hidden = !now.finished;
    if (["position", "stage"].some((name) => now[name] !== shown[name])) {
      drawItem(now);
      comment.value = now.comment;
      part("revealed").replaceChildren(...now.revealed.map(table));
    }
    if (now.comment !== shown.comment) comment.value = now.comment;
    shown = now;
    for (const name of ["rater", "heading", "prompt", "count", "done", "problem"]) write(part(name), now[name]);
    write(part("status"), now.said);
    part("bar").value = now.judged;
    part("bar").max = now.total || 1;
    part("bar").setAttribute("aria-valuetext", now.count);
    for (const each of part("scale").children) each.ariaPressed = String(each.dataset.value === now.verdict);
    previous.disabled = now.position === 0;
    next.disabled = !here;
    undo.disabled = now.judged + now.skipped === 0;
    drawDraft();
    const active = document.activeElement;
    if (focused && (!root.contains(active) || active.disabled || active.closest("[hidden]"))) focusHere();
    root.dataset.turn = now.turn; // last: whoever sees it sees all of this view
  }

  function drawDraft() {
    write(part("draft"), comment.value.trim() !== shown.comment ? "Enter saves it" : shown.comment ? "saved" : "");
  }

  function send(name, value = null) {
    if (waiting) return;
    const typed = comment.value.trim() === shown.comment ? null : comment.value;
    waiting = setTimeout(giveUp, PATIENCE_MS);
    model.send({ turn: view().turn, command: name, value, comment: typed });
  }

  function giveUp() {
    waiting = null;
    write(part("status"), "");
    write(part("problem"), NOT_SAVED);
    part("problem").hidden = false;
  }

  function onKey(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === comment) return onCommentKey(event);
    const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
    const meant = root.querySelectorAll(`[aria-keyshortcuts="${CSS.escape(key)}"]`);
    const found = [...meant].find((each) => !each.closest("[hidden]"));
    if (!found) return;
    event.preventDefault();
    if (found === comment) comment.focus();
    else if (!event.repeat) found.click();
  }

  function onCommentKey(event) {
    if (!(event.key === "Escape" || (event.key === "Enter" && !event.shiftKey))) return;
    event.preventDefault();
    if (event.key === "Escape") comment.value = shown.comment;
    else if (comment.value.trim() !== shown.comment) send("comment", comment.value);
    drawDraft();
    focusHere();
  }

  /** Saving the notebook is always allowed; this listener comes before JupyterLab's. */
  function allowSaving(event) {
    if (!root.contains(event.target)) return;
    const saves = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    // on the focused element too: JupyterLab's selectors match it before its parents are looked at
    for (const each of [root, event.target]) each.toggleAttribute(SUPPRESS, !saves);
  }

  part("scale").dataset.mode = view().mode;
  for (const { value, key, name, meaning } of view().scale) {
    const judge = { type: "button", "data-command": "judge", "data-value": value, "aria-keyshortcuts": key };
    const parts = [make("kbd", { "aria-hidden": "true" }, key), make("b", {}, name), make("small", {}, meaning)];
    part("scale").append(make("button", judge, ...parts));
  }
  root.addEventListener("keydown", onKey);
  root.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-command]");
    if (pressed) send(pressed.dataset.command, pressed.dataset.value);
  });
  comment.addEventListener("input", drawDraft);
  window.addEventListener("keydown", allowSaving, true);
  model.on("change:view", draw);
  el.append(root);
  draw();
  return () => {
    clearTimeout(waiting);
    window.removeEventListener("keydown", allowSaving, true);
    model.off("change:view", draw);
  };
}

export default { render };
