/**
 * The page: it asks the worker, and shows what the worker tells.
 *
 * @module
 */

import { adviceFor } from "./advice.ts";
import { Bars, likeliestOf } from "./bars.ts";
import { Camera } from "./camera.ts";
import { Chart } from "./curves.ts";
import { byId, make, roving, setText } from "./dom.ts";
import { chosen, type Dropped, dropped } from "./drop.ts";
import { readForm, setOwn, writeForm } from "./form.ts";
import { Layers } from "./layers.ts";
import { draw } from "./pictures.ts";
import type { FromWorker, Labelled, Phase, Picture, ToWorker } from "./protocol.ts";
import { workOffline } from "./offline.ts";
import { Sketch } from "./sketch.ts";
import { showConfusion, showMistakes } from "./tested.ts";

/** Milliseconds after the last change of the form until the worker makes another net. */
const FORM_RESTS = 300;

await workOffline();
const worker = new Worker("worker.js", { type: "module" });
const ask = (message: ToWorker) => worker.postMessage(message);

const lossChart = new Chart(byId("loss-chart"), "Loss", [{ name: "train" }]);
const accuracyChart = new Chart(byId("accuracy-chart"), "Accuracy", [
  { name: "train" },
  { name: "test", dots: true },
], 1);
const bars = new Bars(byId("bars"));
const layers = new Layers(byId("layers"));
const fields = byId<HTMLFieldSetElement>("fields");
const buttons = {
  run: byId<HTMLButtonElement>("run"),
  pause: byId<HTMLButtonElement>("pause"),
  reset: byId<HTMLButtonElement>("reset"),
  download: byId<HTMLButtonElement>("download"),
  camera: byId<HTMLButtonElement>("camera"),
};

/** What is known of the run. */
const state = {
  phase: "starting" as Phase,
  classes: [] as readonly string[],
  /** Steps done. */
  steps: 0,
  epochs: 0,
  /** Of the progress before: what the losses and right answers of an epoch come to since. */
  before: { epoch: 0, step: 0, images: 0, loss: 0, right: 0 },
  /** What the picture really is, if that is known. */
  label: undefined as number | undefined,
  /** Whether the answer for a picture is news for a screen reader: once the net sees it. */
  news: "none" as "none" | "asked" | "seen",
};

const sketch = new Sketch(byId<HTMLCanvasElement>("sketch"), (image) => {
  stopCamera(); // Its next picture would hide what is drawn.
  byId("sketch-hint").hidden = true;
  look({ kind: "pixels", image });
});
const camera = new Camera(byId<HTMLVideoElement>("video"), (video) => {
  const image = sketch.show(video, video.videoWidth, video.videoHeight, { fill: true });
  look({ kind: "pixels", image }, false);
});

/** Has the net look at a picture; `tell` says whether the answer is news for a screen reader. */
function look(picture: Picture, tell = true): void {
  state.news = tell ? "asked" : "none";
  ask({ type: "look", picture });
}

/** Shows an image to test with on the paper, and has the net look at it. */
function lookAt(sample: Labelled): void {
  stopCamera();
  byId("sketch-hint").hidden = true;
  sketch.show(draw(make("canvas"), sample), sample.width, sample.height);
  look({ kind: "test", index: sample.index });
}

async function lookAtFile(file: File): Promise<void> {
  stopCamera();
  try {
    const bitmap = await createImageBitmap(file);
    sketch.show(bitmap, bitmap.width, bitmap.height);
    bitmap.close();
    byId("sketch-hint").hidden = true;
    look({ kind: "file", file });
  } catch {
    tellProblem(`${file.name} is no picture that this browser can decode.`);
  }
}

function stopCamera(): void {
  camera.stop();
  buttons.camera.setAttribute("aria-pressed", "false");
}

function tellProblem(words: string): void {
  setText(byId("problem"), words);
}

/** What the phases are called. */
const PHASES: Readonly<Record<Phase, string>> = {
  starting: "Starting …",
  reading: "Reading images …",
  ready: "Ready. Press Run.",
  compiling: "Compiling kernels; the first time this takes a while …",
  training: "Training, and testing after each epoch",
  testing: "Testing …",
  paused: "Paused. Run goes on from here.",
  done: "Done. Run trains as many epochs again.",
  recovering: "The GPU was lost. Getting another one …",
  failed: "Stopped by an error.",
};

function showPhase(phase: Phase): void {
  state.phase = phase;
  const busy = phase === "compiling" || phase === "training";
  const begun = busy || state.steps > 0, focused = document.activeElement;
  fields.disabled = begun || phase === "starting";
  buttons.run.disabled = !["ready", "paused", "done", "failed"].includes(phase);
  buttons.pause.disabled = !busy;
  buttons.reset.disabled = !begun;
  buttons.download.disabled = phase === "starting" || phase === "reading";
  // What is disabled loses the focus: it goes to what is likely to be wanted next.
  if (focused?.matches(":disabled")) (busy ? buttons.pause : buttons.run).focus();
  setText(byId("phase"), PHASES[phase]);
  document.body.dataset["phase"] = phase;
}

/** Shows what the worker tells, by its type. */
const show: { readonly [T in FromWorker["type"]]: (message: FromWorker & { type: T }) => void } = {
  device({ name, words, software }) {
    const adapter = byId("adapter");
    adapter.dataset["kind"] = software ? "software" : "gpu";
    adapter.title = words;
    byId("driver").hidden = !software;
    setText(
      byId("adapter-words"),
      software ? `${name}, on the CPU: slow` : `On ${name}, a GPU`,
    );
  },
  "no-device"({ reason }) {
    byId("adapter").dataset["kind"] = "none";
    setText(byId("adapter-words"), "No WebGPU");
    setText(byId("advice-reason"), `${reason}.`);
    const { userAgent } = navigator;
    const advice = adviceFor({
      userAgent,
      secure: isSecureContext,
      hasWebGPU: "gpu" in navigator,
    });
    byId("advice-list").replaceChildren(...advice.map((words) => make("li", {}, words)));
    byId("advice").hidden = false;
    byId("main").hidden = true;
  },
  phase: ({ phase }) => showPhase(phase),
  reading({ share }) {
    byId<HTMLProgressElement>("progress").value = share;
    setText(byId("phase"), `Reading images: ${Math.round(100 * share)}%`);
  },
  data({ name, own, classes, train, test, samples, notes }) {
    state.classes = classes;
    setOwn(own);
    byId("fashion").hidden = !own;
    bars.name(classes);
    const counts = `${train.toLocaleString("en")} images to train on, ${
      test.toLocaleString("en")
    } to test with`;
    setText(byId("data-words"), [`${name}: ${counts}`, ...notes].join(". "));
    byId("samples").replaceChildren(...samples.map((sample) => {
      const name = classes[sample.label]!;
      const button = make("button", { type: "button", title: name, "aria-label": name });
      button.append(draw(make("canvas"), sample));
      button.addEventListener("click", () => lookAt(sample));
      return button;
    }));
    roving(byId("samples"));
    if (sketch.empty && samples[0]) lookAt(samples[0]);
  },
  begun({ settings, size, history, lines, steps, stepsPerEpoch, command, kept }) {
    // Not what somebody is about to change.
    if (!fields.contains(document.activeElement)) writeForm(settings);
    Object.assign(state, { steps, epochs: settings.epochs });
    state.before = { epoch: 0, step: 0, images: 0, loss: 0, right: 0 };
    const end = stepsPerEpoch * settings.epochs;
    lossChart.clear(end);
    accuracyChart.clear(end);
    for (const { epoch, loss, trainAccuracy, testAccuracy } of history) {
      lossChart.add("train", epoch * stepsPerEpoch, loss);
      accuracyChart.add("train", epoch * stepsPerEpoch, trainAccuracy);
      accuracyChart.add("test", epoch * stepsPerEpoch, testAccuracy);
    }
    const last = history.at(-1);
    setText(byId("epoch"), `${history.length} / ${settings.epochs}`);
    setText(byId("loss"), last ? last.loss.toFixed(4) : "–");
    setText(byId("test-accuracy"), last ? percent(last.testAccuracy) : "–");
    setText(byId("speed"), "–");
    byId<HTMLProgressElement>("progress").value = 0;
    setText(byId("seen-size"), size.join("×"));
    setText(byId("command"), command);
    setText(byId("seed-used"), `${settings.seed}`);
    setText(byId("first-loss"), "–");
    setText(byId("lines"), lines.map((line) => `${line}\n`).join(""));
    byId("loaded").replaceChildren();
    showConfusion(
      byId("confusion"),
      state.classes.map(() => state.classes.map(() => 0)),
      state.classes,
    );
    byId("mistakes").replaceChildren();
    tellProblem("");
    setText(
      byId("kept"),
      kept === undefined
        ? "Nothing is kept yet."
        : `Taken up where it was kept on ${new Date(kept).toLocaleString()}, after step ${steps}.`,
    );
  },
  progress({ progress, steps }) {
    const { phase, epoch, step, steps: of, loss = 0, accuracy, images, imagesPerSecond } = progress;
    byId<HTMLProgressElement>("progress").value = step / of;
    setText(byId("epoch"), `${epoch} / ${state.epochs}`);
    setText(byId("speed"), imagesPerSecond.toFixed(imagesPerSecond < 100 ? 1 : 0));
    if (phase === "test") return;
    const same = state.before.epoch === epoch && state.before.step < step;
    const before = same ? state.before : { epoch, step: 0, images: 0, loss: 0, right: 0 };
    const sum = loss * step, right = accuracy * images;
    const mean = (sum - before.loss) / (step - before.step);
    state.steps = steps;
    document.body.dataset["steps"] = `${steps}`;
    setText(byId("loss"), mean.toFixed(4));
    lossChart.add("train", steps, mean);
    accuracyChart.add("train", steps, accuracy);
    state.before = { epoch, step, images, loss: sum, right };
  },
  epoch({ result: { testAccuracy }, line }) {
    accuracyChart.add("test", state.steps, testAccuracy);
    byId("lines").append(`${line}\n`);
  },
  "first-loss": ({ loss }) => setText(byId("first-loss"), `${loss}`),
  tested({ matrix, accuracy, mistakes }) {
    setText(byId("test-accuracy"), percent(accuracy));
    showConfusion(byId("confusion"), matrix, state.classes);
    showMistakes(byId("mistakes"), mistakes, state.classes, (index) => {
      lookAt(mistakes.find((mistake) => mistake.index === index)!);
    });
  },
  seen({ seen, label }) {
    state.label = label;
    if (state.news === "asked") state.news = "seen";
    setText(byId("truth"), label === undefined ? "" : `It is: ${state.classes[label]}`);
    draw(byId<HTMLCanvasElement>("seen"), seen);
  },
  likely({ probabilities }) {
    bars.show(probabilities, state.label);
    if (state.news !== "seen") return;
    state.news = "none";
    const best = likeliestOf(probabilities);
    setText(byId("answer"), `${state.classes[best]}, ${percent(probabilities[best]!)}`);
  },
  layers: ({ layers: views }) => layers.show(views),
  kept({ time, steps }) {
    const when = new Date(time).toLocaleTimeString();
    setText(byId("kept"), `Kept in this browser at ${when}, after step ${steps}.`);
  },
  loaded({ words }) {
    byId("loaded").replaceChildren(...words.map((line) => make("li", {}, line)));
  },
  file({ name, bytes }) {
    const href = URL.createObjectURL(new Blob([bytes]));
    make("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  },
  recovered({ steps }) {
    const where = steps > 0 ? `goes on from step ${steps}` : "begins anew";
    tellProblem(`The GPU was lost. Another one was found, and the run ${where}.`);
  },
  problem: ({ message }) => tellProblem(message),
};

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;

worker.onmessage = ({ data }: MessageEvent<FromWorker>) =>
  (show[data.type] as (message: FromWorker) => void)(data);
worker.onerror = (event) => {
  showPhase("failed");
  tellProblem(`The worker failed: ${event.message || "it could not be loaded"}`);
};

/** Files of weights: what is no safetensors among them is refused with a word on what it is. */
const WEIGHTS = /\.(safetensors|pth?|ckpt|bin|npz|onnx|h5|gguf)$/i;

/** Does what was dropped, or chosen, asks for. */
function take(what: Dropped | undefined): void {
  if (!what) return tellProblem("That is neither a file nor a folder.");
  if (what.kind === "folder") {
    ask({ type: "folder", name: what.name, files: what.files, settings: readForm() });
  } else if (WEIGHTS.test(what.file.name)) ask({ type: "load", file: what.file });
  else void lookAtFile(what.file);
}

let formTimer = 0;
byId("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  tellProblem("");
  if (formTimer) begin();
  ask({ type: "run" });
});
fields.addEventListener("input", () => {
  clearTimeout(formTimer);
  formTimer = setTimeout(begin, FORM_RESTS);
});
function begin(): void {
  clearTimeout(formTimer);
  formTimer = 0;
  if (!byId<HTMLFormElement>("settings").checkValidity()) return;
  tellProblem("");
  ask({ type: "begin", settings: readForm() });
}
buttons.pause.addEventListener("click", () => ask({ type: "pause" }));
buttons.reset.addEventListener("click", begin);
buttons.download.addEventListener("click", () => ask({ type: "download" }));
byId("clear").addEventListener("click", () => {
  stopCamera();
  sketch.clear();
  byId("sketch-hint").hidden = false;
});
buttons.camera.hidden = !Camera.possible;
buttons.camera.addEventListener("click", async () => {
  if (camera.on) return stopCamera();
  try {
    await camera.start();
    // It may have been stopped meanwhile.
    buttons.camera.setAttribute("aria-pressed", `${camera.on}`);
    if (camera.on) byId("sketch-hint").hidden = true;
  } catch (error) {
    tellProblem(`The camera cannot be used: ${(error as Error).message}`);
  }
});
byId("fashion").addEventListener("click", () => {
  ask({ type: "fashion-mnist", settings: readForm() });
});
byId("copy").addEventListener("click", () => {
  void navigator.clipboard.writeText(byId("command").textContent);
});

for (const id of ["photo", "weights"]) {
  const input = byId<HTMLInputElement>(id);
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    input.value = "";
    if (file) take({ kind: "file", file });
  });
}
const folder = byId<HTMLInputElement>("folder");
folder.addEventListener("change", () => {
  const what = chosen(folder.files!);
  folder.value = ""; // Else a browser does not tell if it is chosen again.
  if (what) take(what);
});

addEventListener("dragover", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) byId("drop").hidden = true;
});
addEventListener("drop", async (event) => {
  byId("drop").hidden = true;
  // Words that are dropped are for the field that they are dropped on.
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  try {
    take(await dropped(event.dataTransfer));
  } catch (error) {
    tellProblem(`What was dropped cannot be read: ${(error as Error).message}`);
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return;
  stopCamera();
  ask({ type: "keep" });
});
new IntersectionObserver(([entry]) => ask({ type: "inside", shown: entry!.isIntersecting }))
  .observe(byId("inside"));

showPhase("starting");
ask({ type: "open", settings: readForm() });
