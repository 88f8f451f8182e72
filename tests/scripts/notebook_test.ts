/**
 * `scripts/notebook/resnet.ipynb`: its code cells run as one module, on fewer images and with no
 * permission but to read these, and show what is stored in it. `tests/reference/run_notebook.py` runs it
 * in Jupyter's kernel.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { loadFashionMnist } from "@resnette/resnette/data";
import { decodeGrey } from "../../lib/files/image.ts";
import { deno } from "../call.ts";
import { inFolder } from "../folder.ts";

const FOLDER = "scripts/notebook", DATA = "data/fashion-mnist";

/** Text of a notebook, whole or in lines. */
type Text = string | readonly string[];
const whole = (text: Text | undefined) => typeof text === "string" ? text : text?.join("") ?? "";

interface Notebook {
  readonly metadata: { readonly kernelspec: { readonly name: string } };
  readonly cells: readonly {
    readonly cell_type: string;
    readonly execution_count: number;
    readonly source: Text;
    readonly outputs: readonly {
      readonly output_type: string;
      readonly text?: Text;
      readonly data?: Readonly<Record<string, Text>>;
    }[];
  }[];
}

/** What a cell printed, and its value as media types: text and HTML. */
interface Output {
  readonly lines: string;
  readonly value: Readonly<Record<string, string>> | undefined;
}

const file = await Deno.readTextFile(`${FOLDER}/resnet.ipynb`);
const notebook: Notebook = JSON.parse(file);
const cells = notebook.cells.filter(({ cell_type }) => cell_type === "code");
const sources = cells.map(({ source }) => whole(source));
const texts = (data: Readonly<Record<string, Text>>) =>
  Object.fromEntries(Object.entries(data).map(([type, text]) => [type, whole(text)]));
const stored = cells.map(({ outputs }): Output => {
  const result = outputs.find(({ output_type }) => output_type === "execute_result");
  const streams = outputs.filter(({ output_type }) => output_type === "stream");
  return {
    lines: streams.map(({ text }) => whole(text)).join(""),
    value: result && texts(result.data!),
  };
});

/** The cell with the settings, and its numbers. */
const SETTINGS = /^const LIMIT = (\d+), TEST_LIMIT = (\d+), RESIZE = (\d+), EPOCHS = (\d+);$/m;
const settings = sources.findIndex((source) => SETTINGS.test(source));
const [, limit, testLimit, , epochs] = sources[settings]!.match(SETTINGS)!.map(Number);
const SMALL = "const LIMIT = 96, TEST_LIMIT = 40, RESIZE = 32, EPOCHS = 2;";

/** The index of the only cell that has these words. */
function cell(words: string): number {
  const found = [...sources.keys()].filter((i) => sources[i]!.includes(words));
  assertEquals(found.length, 1, words);
  return found[0]!;
}

/** The cells as a module that prints, for each, a line with MARK and then its value if it has one. */
const MARK = "\u0001";
function moduleOf(sources: readonly string[]): string {
  const printValue = `
async function printValue(value: unknown): Promise<void> {
  const show = (value as Record<symbol, () => unknown> | undefined)?.[Symbol.for("Jupyter.display")];
  const media = show ? await show.call(value) : { "text/plain": Deno.inspect(value) };
  if (value !== undefined) console.log(${JSON.stringify(MARK)} + JSON.stringify(media));
}`;
  const parts = sources.map((source, i) => {
    const lines = source.split("\n");
    const last = lines.findLastIndex((line) => /^[^\s)}\]]/.test(line));
    const statement = lines.slice(last).join("\n").replace(/;?\s*(?:\/\/.*)?$/, "");
    const isValue = !/^(?:const|let|import|class|(?:async )?function|for|while|if|\/\/)\b/.test(
      statement,
    );
    const body = isValue
      ? [...lines.slice(0, last), `await printValue(${statement});`].join("\n")
      : source;
    return `console.log(${JSON.stringify(`${MARK}cell ${i}`)});\n${body}`;
  });
  return `${parts.join("\n")}\n${printValue}\n`;
}

/** What the module printed, by cell. */
function outputsOf(out: string): Output[] {
  return out.split(new RegExp(`^${MARK}cell \\d+\n`, "m")).slice(1).map((text) => {
    const [lines, value] = text.split(MARK);
    return { lines: lines!, value: value === undefined ? undefined : JSON.parse(value) };
  });
}

/** A text without its numbers and the widths of its columns. */
const form = (text: string) => text.replace(/\d+(?:\.\d+)?/g, "#").replace(/ +/g, " ");
/** The epochs' lines: numbers of each. */
const EPOCH =
  /^epoch (\d+), loss (\d\.\d{4}), train acc (\d\.\d{3}), test acc (\d\.\d{3}), time \d+ sec$/gm;
const epochsOf = (text: string) => [...text.matchAll(EPOCH)].map((words) => words.map(Number));

/** Images of HTML, as pixels, with the words below each. */
async function picturesOf(html: string): Promise<{ pixels: Uint8Array; words: string }[]> {
  const found = html.matchAll(/src="data:image\/png;base64,([^"]+)"><br>([^<]*)</g);
  return await Promise.all([...found].map(async ([, base64, words]) => {
    const { pixels } = await decodeGrey(Uint8Array.fromBase64(base64!), "a picture");
    return { pixels, words: words! };
  }));
}

/** Right ones and all, as a confusion matrix says. */
const countsOf = ({ value }: Output) =>
  value!["text/plain"]!.match(/\n(\d+) of (\d+) images are right, of 10 classes$/)!.slice(1).map(
    Number,
  ) as [number, number];

Deno.test("the notebook is stored as a run of all its cells, and tells nothing of the machine", () => {
  assertEquals(notebook.metadata.kernelspec.name, "deno");
  assertEquals(cells.map((cell) => cell.execution_count), [...cells.keys()].map((i) => i + 1));
  assert(file.length < 300_000, `${file.length} characters`);
  assert(!file.includes("\\u001b"), "escape sequences");
  assert(!file.includes('"error"') && !file.includes('"stderr"'), "an error");
  const path = /file:\/\/|(?:^|[^\w.<])\/(?:home|root|tmp|usr|var|work|Users)\b|[A-Z]:\\\\/;
  const text = file.replace(/base64,[^"\\]+/g, "");
  assert(!path.test(text), `${text.match(path)}`);
});

Deno.test("what is stored is true: shapes, images of the data set, accuracies that agree", async () => {
  const trace = stored[cell("runLayers")]!.lines;
  const readme = await Deno.readTextFile("README.md");
  assert(trace.startsWith("0 output shape: [1, 64, 112, 112]\n") && readme.includes(trace));
  assertEquals(stored[cell("same.call(X)")]!.value!["text/plain"], "[ 4, 3, 6, 6 ]");
  const block = stored[cell("const wider =")]!.value!["text/plain"];
  assertEquals(block, "Tensor relu [4, 6, 3, 3] f32");
  assertMatch(stored[cell('"fc")')]!.value!["text/html"]!, /<\/code> 11,178,378 parameters</);

  const train = await loadFashionMnist(DATA, "train", { limit: limit! });
  const pictures = await picturesOf(stored[cell('"train", {')]!.value!["text/html"]!);
  assertEquals(pictures.length, 24);
  for (const [i, { pixels, words }] of pictures.entries()) {
    const at = Math.floor(i * limit! / pictures.length);
    assertEquals(pixels, train.images.subarray(784 * at, 784 * (at + 1)), `image ${i}`);
    assertEquals(words, train.classes[train.labels[at]!], `image ${i}`);
  }
  const test = await loadFashionMnist(DATA, "test", { limit: testLimit! });
  const examples = await picturesOf(stored[cell("examples.classes")]!.value!["text/html"]!);
  assertEquals(examples.length, 16);
  for (const [i, { pixels, words }] of examples.entries()) {
    assertEquals(pixels, test.images.subarray(784 * i, 784 * (i + 1)), `example ${i}`);
    const truth = test.classes[test.labels[i]!]!;
    assertEquals(words.split(" ✗ ")[1] ?? words.replace(/ \d\.\d\d$/, ""), truth, words);
  }

  const { outputs } = cells[cell("trainer.epoch(")]!;
  const shown = outputs.map(({ data }) => texts(data!));
  assertEquals(shown.length, 2, "one bar and one table, in the place of those before");
  assertMatch(
    shown[0]!["text/html"]!,
    new RegExp(`^<progress value="${testLimit}" max="${testLimit}">`),
  );
  assertEquals([...shown[1]!["text/html"]!.matchAll(/<img /g)].length, 2);
  const lines = epochsOf(shown[1]!["text/plain"]!);
  assertEquals(lines.map(([, epoch]) => epoch), Array.from({ length: epochs! }, (_, i) => i + 1));
  assert(lines.at(-1)![2]! < 0.6 * lines[0]![2]!, "the loss falls");
  const [right, all] = countsOf(stored[cell("confusionMatrix")]!);
  assertEquals(all, testLimit);
  assertEquals(Number((right / all).toFixed(3)), lines.at(-1)![4]);
  assertEquals(Number(stored[cell("evaluateAccuracy(net")]!.value!["text/plain"]), right / all);
  assert(right / all > 0.7, `${right} of ${all}`);
});

Deno.test("the notebook's cells run as a module, and show what is stored", () =>
  inFolder(async (folder) => {
    const small = sources.with(settings, sources[settings]!.replace(SETTINGS, SMALL));
    await Deno.writeTextFile(`${folder}/cells.ts`, moduleOf(small));
    const path = await Deno.realPath(`${folder}/cells.ts`);
    const flags = [
      "--check",
      "--no-prompt",
      "--config=../../deno.json",
    ];
    const args = ["run", "-q", ...flags, `--allow-read=../../${DATA}`, path];
    const { code, out, err } = await deno(args, { cwd: FOLDER });
    assertEquals({ code, err }, { code: 0, err: "" });
    const found = outputsOf(out);
    assertEquals(found.length, cells.length);

    // Up to the settings, everything is the same.
    assertEquals(found.slice(0, settings), stored.slice(0, settings));
    // Then, numbers are others.
    const [device, training, examples] = ["defaultDevice", "trainer.epoch(", "examples.classes"]
      .map(cell) as [number, number, number];
    assertMatch(found[device]!.lines, /^training on .+\n$/);
    for (let i = settings; i < cells.length; i++) {
      const [now, then] = [found[i]!, stored[i]!];
      assertEquals(now.value === undefined, then.value === undefined, sources[i]);
      if (i === training || i === device) continue;
      assertEquals(form(now.lines), form(then.lines), sources[i]);
      if (!now.value || i === examples) continue;
      assertEquals(Object.keys(now.value).sort(), Object.keys(then.value!).sort(), sources[i]);
      assertEquals(form(now.value["text/plain"]!), form(then.value!["text/plain"]!), sources[i]);
    }
    const epochs = epochsOf(found[training]!.lines);
    assertEquals(epochs.map(([, epoch]) => epoch), [1, 2], found[training]!.lines);
    assertMatch(found[training]!.lines, /^epoch 1, train: 96 of 96 images, acc \d\.\d{3}$/m);
    const captions = await picturesOf(found[examples]!.value!["text/html"]!);
    assertEquals(captions.length, 16);
    for (const { words } of captions) assertMatch(words, /^\D+ [01]\.\d\d(?: ✗ \D+)?$/);
    const [right, all] = countsOf(found[cell("confusionMatrix")]!);
    assertEquals(all, 40);
    assertEquals(Number((right / all).toFixed(3)), epochs.at(-1)![4]);
    assertEquals(
      Number(found[cell("evaluateAccuracy(net")]!.value!["text/plain"]),
      right / all,
    );
  }));
