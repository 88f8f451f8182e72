/**
 * The examples of `scripts/examples/`: each runs as its header says, with the permissions that stand
 * there, and prints what it should. The README shows the first one to the letter.
 */

import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import {
  argmax,
  encodeStateDict,
  evaluate,
  manualSeed,
  mean,
  Random,
  resnet18,
  softmax,
  tensor,
} from "@resnette/resnette";
import { loadFashionMnist } from "@resnette/resnette/data";
import { DeviceDataset } from "@resnette/resnette/train";
import { encodePng } from "../../lib/data/png.ts";
import { deno } from "../call.ts";
import { inFolder } from "../folder.ts";

const FOLDER = "scripts/examples";
const read = (path: string) => Deno.readTextFile(path);

/** Runs an example with the command line of its header, and `args` in place of its placeholders. */
async function run(name: string, ...args: string[]): Promise<string> {
  const [, words] = (await read(`${FOLDER}/${name}`)).match(/^ \* {5}deno (run .*)$/m)!;
  const script = `${FOLDER}/${name}`;
  assert(words!.includes(` ${script}`), `${name}: its header runs something else`);
  const flags = words!.slice(0, words!.indexOf(script)).trim().split(" ")
    .map((flag) => flag.replace("DIR", args[0] ?? ""));
  const { code, out, err } = await deno([...flags, "-q", "--no-prompt", script, ...args]);
  assertEquals({ code, err }, { code: 0, err: "" }, name);
  return out;
}

/** The only groups of `pattern`'s matches, as numbers. */
const numbers = (out: string, pattern: RegExp) =>
  [...out.matchAll(pattern)].map(([, word]) => Number(word));

const EXAMPLES: Record<string, () => Promise<void>> = {
  "photos.ts": () =>
    inFolder(async (folder) => {
      const random = new Random(4);
      for (const [name, channel] of [["red", 0], ["blue", 2]] as const) {
        await Deno.mkdir(`${folder}/photos/${name}`, { recursive: true });
        for (let i = 0; i < 20; i++) {
          const pixels = Uint8Array.from({ length: 300 }, (_, at) =>
            random.below(90) + (Math.floor(at / 100) === channel ? 150 : 0));
          await Deno.writeFile(
            `${folder}/photos/${name}/${i}.png`,
            await encodePng(pixels, 10, 10, 3),
          );
        }
      }
      const out = await run("photos.ts", `${folder}/photos`, "32", "3");
      assertMatch(out, /^(epoch [123], loss .*\n){3}blue: (blue|red) [01]\.\d{3}\n$/);
      assert(numbers(out, /train acc (\S+),/g).at(-1)! > 0.9, out);
    }),

  "net.ts": async () => {
    const out = await run("net.ts", "256");
    assertMatch(out, /^(epoch [123], loss \d\.\d{4}, test acc 0\.\d{3}\n){3}$/);
    const losses = numbers(out, /loss (\S+),/g), accuracies = numbers(out, /acc (\S+)/g);
    assert(losses[0]! < Math.log(10) && losses[2]! < 0.6 * losses[0]!, out);
    assert(accuracies[2]! > 0.5, out);
  },

  "custom_op.ts": async () => {
    const out = await run("custom_op.ts");
    const [silu] = out.match(/^silu .*\[([^]*?)\]/m)!.slice(1);
    silu!.split(",").forEach((word, i) => {
      const x = i - 1;
      assertAlmostEquals(Number(word), x / (1 + Math.exp(-x)), 1e-6);
    });
    assertMatch(out, /^cumsum .*\[ 1, 3, 6, 4, 9, 15 \]$/m);
    const errors = numbers(out, /: gradient and finite differences differ by (\S+)$/gm);
    assertEquals(errors.length, 2);
    for (const error of errors) assert(error < 2e-4, out);
  },

  "custom_layer.ts": async () => {
    const out = await run("custom_layer.ts");
    const losses = numbers(out, /^step \d+, loss (\S+)$/gm);
    assert(losses.length === 5 && losses[4]! < 0.1 && losses[0]! > 0.5, out);
    const [right] = numbers(out, /^right: (\d+) of 441$/gm);
    assert(right! > 430, out);
    assertMatch(out, /^state: 0\.weight, 0\.bias, 0\.running_square, 2\.weight, /m);
  },

  "predict.ts": () =>
    inFolder(async (folder) => {
      manualSeed(1); // The example makes its net from seed 0: only what it loads gives these answers.
      const net = resnet18().eval();
      manualSeed(0);
      const data = await loadFashionMnist("data/fashion-mnist", "test", { limit: 8 });
      const indices = tensor(Uint32Array.from({ length: 8 }, (_, i) => i));
      const logits = net.call(new DeviceDataset(data).batch(indices, { resize: 32 }).x);

      // An untrained net says the same of all images: what is common to them goes, the rest grows.
      const state = await net.stateDict(), [common] = await evaluate([mean(logits, [0])]);
      const { data: weight } = state.get("fc.1.weight")!, { data: bias } = state.get("fc.1.bias")!;
      weight.forEach((x, i) => weight[i] = 1000 * x);
      bias.forEach((x, i) => bias[i] = 1000 * (x - common![i]!));
      net.loadStateDict(state);
      const file = `${folder}/model.safetensors`;
      await Deno.writeFile(file, encodeStateDict(state));
      const out = await run("predict.ts", file, "8", "32");

      const [best, likely] = await evaluate([argmax(logits), softmax(logits)]);
      assert(new Set(best).size > 1, `${best}: the images are not told apart`);
      const lines = [...best!].map((label, i) => {
        const probability = likely![10 * i + label]!.toFixed(3);
        return `${data.classes[data.labels[i]!]}: ${data.classes[label]} ${probability}\n`;
      });
      assertEquals(out, lines.join(""));
    }),
};

for (const [name, check] of Object.entries(EXAMPLES)) {
  Deno.test(`scripts/examples/${name} runs as its header says`, check);
}

Deno.test("every example is run, and imports the library by its name only", async () => {
  const names = [...Deno.readDirSync(FOLDER)].flatMap(({ name, isFile }) => isFile ? [name] : []);
  assertEquals(names.sort(), Object.keys(EXAMPLES).sort());
  for (const name of names) {
    const imports = [...(await read(`${FOLDER}/${name}`)).matchAll(/\bfrom "(.*)";/g)];
    assert(imports.length > 0, name);
    for (const [, from] of imports) assertMatch(from!, /^@resnette\/resnette(\/\w+)?$/, name);
  }
});
