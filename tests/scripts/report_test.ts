/** What a run leaves to look at: metrics by line, predictions, and the reports on one run and on two. */

import { call as callMain } from "../call.ts";
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import {
  classMetrics,
  confidentMistakes,
  confusionMatrix,
  MODELS,
  trainConfig,
  Trainer,
} from "@resnette/resnette/train";
import { div, Flatten, Linear, Module, sum, type Tensor } from "@resnette/resnette";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { RunDirectory } from "../../lib/files/run.ts";
import { main as report } from "../../scripts/report.ts";
import { thin } from "../../scripts/report/charts.ts";
import { comparisonOf } from "../../scripts/report/compare.ts";
import { readMetrics } from "../../scripts/report/metrics_log.ts";
import { RunRecorder } from "../../scripts/report/recorder.ts";
import { decodeGrey } from "../../lib/files/image.ts";
import { encodePng } from "../../lib/data/png.ts";
import { latestRun } from "../../scripts/report/run.ts";
import { plain } from "../../scripts/report/text.ts";
import { main as shapes } from "../../scripts/shapes.ts";
import { main as train } from "../../scripts/train.ts";
import { displayOf } from "../display.ts";
import { inFolder } from "../folder.ts";
import { tinyNet } from "../tiny_train.ts";

MODELS.set("tiny", tinyNet);

const DATA = "data/fashion-mnist";
/** Batches of 24, 24 and 16, and of 24 and 8 in tests. */
const TINY = ["--model", "tiny", "--limit", "64", "--test-limit", "32", "--batch-size", "24"]
  .concat("--resize", "32", "--lr", "0.03");

/** Runs a command in this process. */
const call = (main: (args: string[]) => Promise<number>, ...args: string[]) => callMain(main, args);

/** The HTML of a report, which must stand alone and do nothing. */
async function htmlOf(folder: string): Promise<string> {
  const html = await Deno.readTextFile(`${folder}/report.html`);
  assert(
    !/<(script|img|iframe|object|embed|link|base|form)\b/i.test(html),
    "an element that loads",
  );
  const body = html.slice(html.indexOf("<body"));
  assert(!/<[^>]*\son\w+=/i.test(body), "a handler");
  const loads = [...html.matchAll(/<[^<>]*\b(?:src|href)="([^"]*)"|\burl\(([^)]*)\)/g)];
  for (const [, a, b] of loads) assertMatch(a ?? b!, /^(#|data:image\/png;base64,)/);
  assertStringIncludes(html, "default-src 'none'");
  return html;
}

/** The headings of the second rank. */
const headings = (text: string) => [...text.matchAll(/^## (.*)$/gm)].map(([, words]) => words);

Deno.test("confusion, precision, recall and F1 are those of scikit-learn's examples", () => {
  assertEquals(
    confusionMatrix([2, 0, 2, 2, 0, 1], [0, 0, 2, 2, 0, 2], 3),
    [[2, 0, 0], [0, 0, 1], [1, 0, 2]],
  );
  const found = classMetrics([0, 1, 2, 2, 2], [0, 0, 2, 2, 1], 3);
  assertEquals(found.map(({ precision }) => precision), [0.5, 0, 1]);
  assertEquals(found.map(({ recall }) => recall), [1, 0, 2 / 3]);
  assertEquals(found.map(({ f1 }) => f1), [2 / 3, 0, 0.8]);
  assertEquals(found.map(({ images }) => images), [1, 1, 3]);
  assertEquals(classMetrics([0], [0], 2)[1], {
    precision: NaN,
    recall: NaN,
    f1: NaN,
    images: 0,
  });
  const predictions = { predicted: [1, 1, 0, 1], probability: [0.6, 0.9, 0.8, 0.6] };
  assertEquals(confidentMistakes([0, 1, 1, 0], predictions, 9), [2, 0, 3]);
  const lost = { predicted: [1, 1, 1, 1], probability: [NaN, 0.6, NaN, 0.9] };
  assertEquals(confidentMistakes([0, 0, 0, 0], lost, 9), [3, 1, 0, 2]);
  assertThrows(() => confusionMatrix([0], [0, 1], 2), RangeError, "1 labels and 2 predictions");
  assertThrows(() => confusionMatrix([0, 3], [0, 1], 2), RangeError, "image 1 has label 3");
});

Deno.test("a notebook shows a confusion matrix with the names of the classes, and JSON the counts", async () => {
  const [labels, predicted] = [[2, 0, 2, 2, 0, 1], [0, 0, 2, 2, 0, 2]];
  const matrix = confusionMatrix(labels, predicted, ["cat", "<i>dog", "bird"]);
  assertEquals(matrix, [[2, 0, 0], [0, 0, 1], [1, 0, 2]]);
  assertEquals(JSON.stringify(matrix), "[[2,0,0],[0,0,1],[1,0,2]]");
  assertEquals(Reflect.ownKeys([...matrix]), ["0", "1", "2", "length"]);
  const { text, html } = await displayOf(matrix);
  assertEquals(text.split("\n").map((line) => line.trim().split(/ {2,}/)), [
    ["true \\ predicted", "cat", "<i>dog", "bird"],
    ["cat", "2", "0", "0"],
    ["<i>dog", "0", "0", "1"],
    ["bird", "1", "0", "2"],
    ["4 of 6 images are right, of 3 classes"],
  ]);
  const cells = [...html.matchAll(/<td style="[^"]*background-color:([^"]*)">(\d*)</g)];
  assertEquals(cells.map(([, , count]) => count), ["2", "", "", "", "", "1", "1", "", "2"]);
  assertEquals(cells[0]![1], "rgba(31,111,235,0.60)", "right: blue");
  assertEquals(cells[5]![1], "rgba(219,109,40,0.60)", "wrong: orange");
  assertStringIncludes(html, "&lt;i&gt;dog");
  assertStringIncludes((await displayOf(confusionMatrix(labels, predicted, 3))).html, ">2</th>");
  const many = await displayOf(confusionMatrix([4000, 1], [4000, 2], 4096));
  assertEquals(many.html, "1 of 2 images are right, of 4096 classes");
  assertThrows(
    () => confusionMatrix([0], [0], ["a", 1 as unknown as string]),
    TypeError,
    "classes[1]",
  );
  assertThrows(() => confusionMatrix([0], [0], []), TypeError, "confusionMatrix: classes");
});

Deno.test("a PNG holds its pixels", async () => {
  const pixels = Uint8Array.from({ length: 256 }, (_, i) => i);
  for (const [height, width] of [[8, 32], [256, 1], [1, 256]] as const) {
    const png = await encodePng(pixels, height, width);
    assertEquals(png.subarray(0, 8).toHex(), "89504e470d0a1a0a");
    assertEquals(await decodeGrey(png, "a PNG"), { pixels, width, height });
  }
});

Deno.test("what a terminal obeys is taken out of a text, and what letters need is not", () => {
  const joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u{1f468}\u200d\u{1f4bb}";
  assertEquals(plain(joined), joined);
  assertEquals(plain("a\n\x1bb\u202ec\u200d\u2028d"), "a b c\u200d d");
});

Deno.test("many points become means of neighbours", () => {
  assertEquals(thin([[1, 4], [2, 8], [3, 0], [5, 1]], 2), [[1.5, 6], [4, 0.5]]);
});

Deno.test("a run leaves metrics, predictions and a report, and goes on with them", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`;
    const first = await call(train, ...TINY, "--epochs", "1", "--out", run);
    assertEquals(first.code, 0, first.err);
    // What a killed process may leave: steps that are in no checkpoint, and half a line.
    const { steps: [line] } = await readMetrics(run);
    const late = `${JSON.stringify({ ...line, epoch: 2, steps: 4, loss: 99 })}\n{"kind":"st`;
    await Deno.writeTextFile(`${run}/metrics.jsonl`, late, { append: true });
    const second = await call(train, "--resume", run, "--epochs", "3");
    assertEquals(second.code, 0, second.err);

    const text = await Deno.readTextFile(`${run}/metrics.jsonl`);
    const lines = text.trimEnd().split("\n").map((words) => JSON.parse(words));
    const metrics = await readMetrics(run);
    assertEquals(metrics.warnings, []);
    assertEquals(lines.length, 1 + metrics.steps.length + metrics.epochs.length, "no duplicates");
    assertEquals(lines[0].config.epochs, 3);
    assert(metrics.steps.every(({ loss }) => loss < 99));
    assertEquals(metrics.epochs.map(({ steps }) => steps), [3, 6, 9]);
    const { history } = JSON.parse(
      await Deno.readTextFile(`${run}/checkpoints/epoch-3/run.json`),
    );
    assertEquals(
      metrics.epochs.map(({ kind: _, time: _t, steps: _s, memory: _m, traffic: _w, ...result }) =>
        result
      ),
      history,
    );
    // The lines of an epoch add up to its mean.
    let sum = 0, before = 0;
    for (const { step, loss } of metrics.steps.filter(({ epoch }) => epoch === 3)) {
      sum += loss * (step - before);
      before = step;
    }
    assert(Math.abs(sum / 3 - history[2].loss) < 1e-4);

    const tested = JSON.parse(await Deno.readTextFile(`${run}/predictions.json`));
    const { labels } = await loadFashionMnist(DATA, "test", { limit: 32 });
    assertEquals(tested.labels, [...labels]);
    const right = tested.predicted.filter((k: number, i: number) => k === labels[i]).length;
    assertEquals(right / 32, history[2].testAccuracy);
    assert(tested.probability.every((p: number) => p >= 0.1 && p <= 1));

    const markdown = await Deno.readTextFile(`${run}/report.md`);
    const sections = ["Results", "Curves", "Classes", "Mistakes", "Time and memory"];
    assertEquals(headings(markdown), [...sections, "Configuration", "Network"]);
    assertStringIncludes(markdown, "```mermaid\nflowchart TD\n");
    assertStringIncludes(markdown, "| batch size | 24 |");
    for (const [, path] of markdown.matchAll(/\]\((report\/.*?)\)/g)) {
      assertStringIncludes(await Deno.readTextFile(`${run}/${path}`), "prefers-color-scheme");
    }
    const html = await htmlOf(run);
    assertEquals(html.match(/<svg class="plot"/g)!.length, 7);
    assertStringIncludes(html, "image/png");

    // A checkpoint alone: no metrics, and no predictions until it is tested.
    const checkpoint = `${run}/checkpoints/epoch-1`;
    assertEquals((await call(report, checkpoint, "--out", `${folder}/a`)).code, 0);
    const alone = await Deno.readTextFile(`${folder}/a/report.md`);
    assertStringIncludes(alone, "# run/epoch-1\n");
    assertStringIncludes(alone, "--evaluate");
    const { code, err } = await call(report, checkpoint, "--evaluate");
    assertEquals(code, 0, err);
    const again = JSON.parse(await Deno.readTextFile(`${checkpoint}/predictions.json`));
    const rights = again.predicted.filter((k: number, i: number) => k === labels[i]).length;
    assertEquals([again.epoch, rights / 32], [1, history[0].testAccuracy]);
    assertStringIncludes(await htmlOf(checkpoint), "Ankle boot");

    // Two runs.
    const both = await call(report, run, checkpoint, "--out", `${folder}/both`);
    assertEquals(both.code, 0, both.err);
    assertEquals(both.out, `${folder}/both/report.md\n${folder}/both/report.html\n`);
    const compared = await Deno.readTextFile(`${folder}/both/report.md`);
    assertEquals(headings(compared), ["Curves", "F1 by class", "Configuration"]);
    assertMatch(compared, /^\| run \| 3 \|/m);
    assertMatch(compared, /^\| epochs \| 3 \| 1 \|$/m);
    assertStringIncludes(await htmlOf(`${folder}/both`), "run/epoch-1");
  }));

Deno.test("predictions that could not be kept at once are told to be of when they were made", () =>
  inFolder(async (folder) => {
    const config = trainConfig({ model: "tiny", batchSize: 4, resize: 32 });
    const test = await loadFashionMnist(DATA, "test", { limit: 8 });
    using trainer = await Trainer.create({ config, train: test, test });
    const said: string[] = [], say = (line: string) => Promise.resolve(void said.push(line));
    const about = { folder, fresh: true, trainer, test, before: undefined, ranks: undefined, say };
    using recorder = await RunRecorder.open(about);
    await Deno.mkdir(`${folder}/predictions.json`);
    await trainer.epoch({ onTested: (predictions) => recorder.tested(predictions) });
    await recorder.report((await trainer.checkpoint()).run);
    assertEquals(said.length, 1);
    await Deno.remove(`${folder}/predictions.json`);
    const stop = new AbortController();
    await trainer.epoch({ onProgress: () => stop.abort(), signal: stop.signal });
    const { run } = await trainer.checkpoint();
    assertEquals([run.history.length, run.steps], [1, 3]);
    await recorder.report(run);
    const { epoch, steps } = JSON.parse(await Deno.readTextFile(`${folder}/predictions.json`));
    assertEquals([epoch, steps], [1, 2]);
  }));

/** Logits of an image's shares of its light, of which a black one has none. */
class Shares extends Module {
  readonly linear = new Linear(28 * 28, 10);

  override forward(x: Tensor): Tensor {
    const flat = new Flatten().call(x);
    return this.linear.call(div(flat, sum(flat, [1], { keepDims: true })));
  }
}

Deno.test("a report says for which images the outputs of the net are not finite", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`, config = trainConfig({ model: "tiny", batchSize: 4, resize: 28 });
    const train = await loadFashionMnist(DATA, "test", { limit: 8 });
    const test = { ...train, images: train.images.slice() };
    test.images.fill(0, 0, 28 * 28);
    using trainer = await Trainer.create({ config, train, test, net: new Shares() });
    using directory = await RunDirectory.open(run, { fresh: true });
    const said: string[] = [], say = (line: string) => Promise.resolve(void said.push(line));
    const about = { folder: run, fresh: true, trainer, test, before: undefined, ranks: undefined };
    using recorder = await RunRecorder.open({ ...about, say });
    await trainer.epoch({ onTested: (predictions) => recorder.tested(predictions) });
    const checkpoint = await trainer.checkpoint();
    await directory.save(checkpoint);
    await recorder.report(checkpoint.run);
    assertEquals(said, []);
    const lost = "for 1 of 8 test images the net gives numbers that are not finite";
    assertStringIncludes(await htmlOf(run), lost);
    const { code, err } = await call(report, run);
    assertEquals(code, 0, err);
    assertStringIncludes(err, `${run}/predictions.json: ${lost}`);
    assertStringIncludes(await Deno.readTextFile(`${run}/report.md`), "results on 8 test images");
  }));

Deno.test("a run that was stopped in its first epoch has a report, whatever its name and files say", () =>
  inFolder(async (folder) => {
    const evil = "<img src=x onerror=alert(1)> [a](javascript:b) https:c `|* $x$";
    const run = `${folder}/${evil}`;
    const config = trainConfig({ model: "tiny", batchSize: 4, resize: 32 });
    const data = await loadFashionMnist(DATA, "test", { limit: 8 });
    using trainer = await Trainer.create({ config, train: data, test: data });
    const stop = new AbortController();
    await trainer.epoch({ onProgress: () => stop.abort(), signal: stop.signal });
    {
      using directory = await RunDirectory.open(run, { fresh: true });
      await directory.save(await trainer.checkpoint());
    }
    const bad = [
      "{",
      "7",
      '{"kind":"toString"}',
      '{"kind":"step","loss":"<b>"}',
      '{"kind":"epoch"}',
    ];
    const good = { kind: "step", time: "", epoch: 1, step: 1, steps: 1 };
    bad.push(JSON.stringify({ ...good, loss: 2, accuracy: 7, imagesPerSecond: 1 }));
    await Deno.writeTextFile(`${run}/metrics.jsonl`, bad.join("\n"));
    await Deno.writeTextFile(
      `${run}/predictions.json`,
      '{"format":1,"labels":[0],"predicted":[1]}',
    );
    const { code, err } = await call(report, run);
    assertEquals(code, 0, err);
    assertStringIncludes(err, "skipped 6 damaged lines, the first is line 1");
    assertStringIncludes(err, "predictions.json: is damaged, and was left out");
    const html = await htmlOf(run);
    assertStringIncludes(
      html,
      "No epoch is complete yet. It was stopped after 1 steps of epoch 1.",
    );
    assertStringIncludes(html, "&lt;img src=x onerror=alert(1)&gt; [a](javascript:b) https:c");
    assert(!/<a [^>]*href="(?!#)/.test(html), "a link");

    // Before the first checkpoint there are metrics.
    const killed = `${folder}/killed`;
    await Deno.mkdir(killed);
    const images = { train: 8, test: 8 };
    const first = { kind: "run", time: "", version: "0", adapter: "<script>", config, images };
    await Deno.writeTextFile(`${killed}/metrics.jsonl`, `${JSON.stringify(first)}\n`);
    assertEquals((await call(report, killed)).code, 0);
    assertStringIncludes(await htmlOf(killed), "&lt;script&gt;");
    for (const damaged of [{ resize: 1.5 }, { resize: [] }, { channels: "x" }]) {
      const line = { ...first, config: { ...config, ...damaged } };
      await Deno.writeTextFile(`${killed}/metrics.jsonl`, `${JSON.stringify(line)}\n`);
      const { code, err } = await call(report, killed);
      assertEquals(code, 0, err);
    }
  }));

Deno.test("runs are compared by class if their classes are the same, whatever is in the names", () => {
  const runOf = (name: string, ...classes: string[]) => ({
    ...{ name, folder: name, state: undefined, images: undefined, warnings: [] },
    metrics: { run: undefined, steps: [], epochs: [], warnings: [] },
    tested: { epoch: 1, steps: 1, classes, labels: [0], predicted: [0], probability: [1] },
  });
  const runs = [runOf("p", "a", "b,c"), runOf("q", "a,b", "c"), runOf("r", "a", "b", "c")];
  const text = comparisonOf([...runs, runOf("s", "a", "b,c")]).join("\n");
  assertStringIncludes(text, "| class | p | s |\n");
  assertStringIncludes(text, "| b,c | – | – |\n");
});

Deno.test("deno task shapes --graph draws every layer once, in the order that they run", async () => {
  const { code, out } = await call(shapes, "--graph", "--size", "32", "--model", "resnet18");
  assertEquals(code, 0);
  const lines = out.trimEnd().split("\n");
  assertEquals([lines[0], lines[1], lines.at(-1)], ["```mermaid", "flowchart TD", "```"]);
  const nodes = lines.flatMap((line) => line.match(/^\s+(\w+)[[(]/)?.[1] ?? []);
  const links = lines.flatMap((line) => line.match(/^ {2}(\w+) --> (\w+)$/)?.slice(1) ?? []);
  assertEquals(nodes.length, 1 + 4 + 8 + 1 + 2);
  assertEquals(links, nodes.slice(1).flatMap((node, i) => [nodes[i]!, node]));
});

Deno.test("deno task report explains itself, and what is wrong", async () => {
  const help = await call(report, "--help");
  assertEquals([help.code, help.err], [0, ""]);
  assert(help.out.split("\n").every((line) => line.length <= 100));
  const unknown = await call(report, "--bogus");
  assertEquals(unknown.code, 2);
  assertStringIncludes(unknown.err, "unknown: --bogus");
  const none = await call(report, "runs/there/is/none");
  assertEquals(none.code, 1);
  assertStringIncludes(none.err, "error: runs/there/is/none: there is no such folder");
});

Deno.test("the latest run is the one that was trained last, and left something", () =>
  inFolder(async (folder) => {
    const run = async (name: string, time: number, file?: string) => {
      await Deno.mkdir(`${folder}/${name}/checkpoints`, { recursive: true });
      if (file) await Deno.writeTextFile(`${folder}/${name}/${file}`, "");
      await Deno.utime(`${folder}/${name}/checkpoints`, time, time);
    };
    assertEquals(await latestRun(`${folder}/none`), undefined);
    await run("a", 200, "metrics.jsonl");
    await run("b", 100, "metrics.jsonl");
    await run("killed", 300);
    await Deno.mkdir(`${folder}/other`);
    assertEquals(await latestRun(folder), `${folder}/a`);
  }));
