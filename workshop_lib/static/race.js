// Shows what Python draws, whose HTML is escaped there, and plays the pictures of a finished race one after the other.

function render({ model, el }) {
  el.innerHTML = `<div class="ws-race" role="group" aria-label="Race between models">
    <div></div><div></div><div role="status" aria-live="polite"></div><footer></footer></div>`;
  const root = el.firstElementChild;
  const [head, lanes, said, footer] = root.children;
  let playing = 0;

  const button = (label, act) => {
    const made = document.createElement("button");
    made.className = "jupyter-button";
    made.textContent = label;
    made.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's keys leave it alone
    made.addEventListener("click", act);
    footer.append(made);
    return made;
  };
  const race = (turns) => {
    for (const each of [again, together]) each.disabled = true; // until Python says that a race runs
    model.send({ turns });
  };
  const again = button("Race again", () => race("in turns"));
  const together = button("At the same time", () => race("together"));
  const replay = button("Replay", () => (playing ? end() : play()));

  const draw = (html) => {
    lanes.innerHTML = html;
    for (const text of lanes.querySelectorAll(".wr-text")) text.scrollTop = moving() ? text.scrollHeight : 0;
  };
  const moving = () => playing || model.get("view").stage === "running";
  const play = () => {
    const { frames, play_s } = model.get("view");
    const began = performance.now();
    said.innerHTML = "";
    replay.textContent = "To the end";
    const step = (now) => {
      const frame = frames[Math.floor((Math.max(0, now - began) / 1000 / play_s) * frames.length)];
      if (frame === undefined) return end();
      if (frame !== root.frame) draw((root.frame = frame));
      playing = requestAnimationFrame(step);
      root.dataset.playing = "true";
    };
    step(began);
  };
  const end = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    const view = model.get("view");
    draw(view.lanes ?? "");
    said.innerHTML = view.said ?? "";
    replay.textContent = "Replay";
    root.dataset.playing = "";
  };
  const update = () => {
    const view = model.get("view");
    head.innerHTML = view.head;
    end();
    for (const each of [again, together]) each.disabled = view.stage === "running";
    replay.hidden = !view.frames?.length;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (view.by_itself && view.frames.length && !still) play();
    root.dataset.stage = view.stage;
  };
  update();
  model.on("change:view", update);
  return () => {
    model.off("change:view", update);
    cancelAnimationFrame(playing);
  };
}

export default { render };
