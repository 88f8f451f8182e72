/**
 * The public names of each entry. Whoever adds or removes one does so here as well, on purpose.
 * What documents and examples use is public.
 */

import { assert, assertEquals } from "@std/assert";
import project from "../../deno.json" with { type: "json" };

/**
 * What each entry exports: values, and types that are nothing when it runs. The root has the ops of
 * {@link OPS} as well: each of them has a row in `tests/ops/table.ts` on purpose.
 */
const FACE: Readonly<Record<string, { readonly values: string; readonly types: string }>> = {
  ".": {
    values: `
      Adam AdamW AdaptiveAvgPool2d adaptiveAvgPool2d apply argmax argmin ArgumentError arrays
      asFloat32Array assign AvgPool2d avgPool2d BatchNorm batchNorm BatchNorm1d BatchNorm2d
      Bottleneck broadcastTo channelMoments clipGradNorm clipGradValue collectUpdates
      constantParameter Conv2d conv2d ConvTranspose2d convTranspose2d correctCount
      cosineAnnealingLR cropFlip decodeStateDict defaultDevice Device DeviceError Dropout
      Dropout2d ELU Embedding encodeOnnx encodeStateDict evaluate exponentialLR Flatten flatten
      formatSummary freeVariables gather GELU GlobalAvgPool2d globalAvgPool2d grad GroupNorm
      input item LayerNorm LeakyReLU Linear linear linearLR logSoftmax manualSeed matmul
      MaxPool2d maxPool2d mean Module ModuleList multiStepLR normalize normalParameter
      noteRunning noteUpdate oneCycleLR oneHot OnnxError Optimizer Parameter parseSafetensors
      permute perThread Plan PlanError Random readVariables ReLU reshape Residual resizeBilinear
      resnet101 resnet152 resnet18 resnet34 resnet50 resnetBlock RMSprop rotate runLayers
      SafetensorsError select Sequential sequentialLR serializeSafetensors setVariable SGD
      ShapeError Sigmoid SiLU softmax Softplus squeeze stepLR sum summarize Tanh Tensor tensor
      toList uniformParameter UnsavedBuffer unsqueeze Upsample upsample Variable
    `,
    types: `
      AdamOptions Attrs AvgPoolOptions AxisOptions BatchNormOptions Binding BlockOptions
      ClampOptions Conv2dOptions ConvOptions ConvTranspose2dOptions ConvTransposeOptions
      CrossEntropyOptions DeviceOptions DropoutOptions DType Feeds Finish GeluOptions GroupSettings
      HuberLossOptions KernelChoice KernelSpec Layer LayerNormOptions LayerSummary
      LinearLROptions LinearOptions LogitsLossOptions LossOptions NestedNumbers NllLossOptions
      NormOptions OneCycleLROptions OnnxOptions Op Operand OptimizerOptions OutputSize
      PadOptions Pair ParameterGroup PlanOptions PoolOptions RandomState Range ReduceOptions
      Reduction ReductionSpec ResNetOptions RMSpropOptions SafetensorsFile SafetensorsInput
      SafetensorsTensor Schedule SGDOptions Shape Start StateDict Step StridedView Target TensorData
      Update UpsampleOptions VarianceOptions
    `,
  },
  "./data": {
    values: `
      collectImages DataError FASHION_MNIST_CLASSES FASHION_MNIST_FILES
      fetchFashionMnist fetchFile gunzip IdxStream
      loadDataset loadFashionMnist readFashionMnist readIdx readImageDataset WriteError
    `,
    types: `
      ByteStream CollectOptions DataErrorCode DataFile DatasetSummary FetchImagesOptions FetchOptions FetchProgress IdxOptions ImageDataset
      ImagesInMemory ImageItem LoadedDataset LoadOptions NamedStream PixelImage ReadImages ReadOptions Skipped
      Split
    `,
  },
  "./train": {
    values: `
      AUGMENTATIONS broadcastBytes broadcastCheckpoint broadcastDataset CHECKPOINT_FILES
      CheckpointError classMetrics COMPRESSIONS confidentMistakes ConfigError
      confusionMatrix decodeCheckpoint DEFAULT_CONFIG DeviceDataset encodeCheckpoint
      evaluateAccuracy formatEpoch gatherTexts learningRate likeliest MODELS NonFiniteError
      OPTIMIZERS predict RankError SCHEDULES SingleImageError trainConfig Trainer VERSION worstConfusions
    `,
    types: `
      Checkpoint CheckpointFiles ClassMetrics Collective Confusion DataSource EpochResult Images Likely
      ModelBuilder Predictions Preprocessing Progress RunState TrainConfig TrainedOn
      TrainerOptions Traffic Watch
    `,
  },
  "./measure": {
    values: `
      chromeTrace costsBy measureCeiling profilePlan trainingGraph tune
    `,
    types: `
      Ceiling Convolution Cost Pass Problem Product Profile ProfileOptions Scope StepProfile
      TimingOptions Tuned TuneOptions TuneProgress Tuning
    `,
  },
  "./mpi": {
    values: `Mpi MpiError`,
    types: `MpiErrorCode MpiOptions`,
  },
};

const ROOT = new URL("../../", import.meta.url);
/** Files that the root exports whole. */
const OPS = [
  "activation",
  "compare",
  "cross_entropy",
  "dropout",
  "elementwise",
  "indexing",
  "layer_norm",
  "losses",
  "slice",
  "statistics",
].map((name) => `./lib/ops/${name}.ts`);
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));
const sorted = (names: Iterable<string>) => [...names].sort();
const words = (text: string) => text.trim().split(/\s+/);

/** Names in the braces of an import or an export, without comments; types are marked as in the source. */
const namesIn = (braces: string) =>
  braces.replace(/^[ \t]*\*/gm, "").split(",").map((name) => name.trim()).filter(Boolean);

const ops = (await Promise.all(OPS.map((path) => import(`../../${path}`)))).flatMap(Object.keys);
/** The values of an entry, those of the root with the ops. */
const valuesOf = (entry: string) => [...words(FACE[entry]!.values), ...entry === "." ? ops : []];

/** By entry, all its names. */
const all = new Map(
  Object.keys(FACE).map((entry) => [
    project.name + entry.slice(1),
    new Set([...valuesOf(entry), ...words(FACE[entry]!.types)]),
  ]),
);

Deno.test("each entry exports the names that are listed here, and no others", async () => {
  assertEquals(Object.keys(project.exports), Object.keys(FACE));
  for (const [entry, path] of Object.entries(project.exports)) {
    let code = (await read(path)).replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
    for (const file of entry === "." ? OPS : []) {
      const types = (await read(file)).matchAll(/^export (?:interface|type) (?:\{ )?(\w+)/gm);
      const names = [...types].map(([, name]) => name).join(", ");
      assert(code.includes(`export * from "${file}";`), file);
      code = code.replace(`export * from "${file}";`, `export type { ${names} };`);
    }
    const list = /^export (type )?\{([^}]*)\}(?: from "[^"]+")?;$/gm;
    assertEquals(code.replace(list, "").trim(), "", path);
    const types = [...code.matchAll(list)].flatMap(([, type, braces]) =>
      namesIn(braces!).filter((name) => type || name.startsWith("type "))
    );
    assertEquals(
      sorted(types.map((name) => name.replace("type ", ""))),
      sorted(words(FACE[entry]!.types)),
    );
    const module = await import(project.name + entry.slice(1));
    assertEquals(sorted(Object.keys(module)), sorted(valuesOf(entry)), entry);
  }
});

Deno.test("no name is exported by two entries", () => {
  const names = [...all.values()].flatMap((names) => [...names]);
  assertEquals(names.filter((name, i) => names.indexOf(name) !== i), []);
});

/** What a text imports from the entries and they do not export. */
function missing(text: string): string[] {
  const imports = text.matchAll(
    /\bimport (?:type )?(?:\{([^}]*)\}|\* as (\w+)) from "(@resnette\/resnette[^"]*)"/g,
  );
  return [...imports].flatMap(([, braces, whole, from]) => {
    const names = whole === undefined
      ? namesIn(braces!).map((name) => name.replace(/^type | as .*/g, ""))
      : [...text.matchAll(new RegExp(`\\b${whole}\\.(\\w+)`, "g"))].map(([, name]) => name!);
    return names.filter((name) => !all.get(from!)?.has(name)).map((name) => `${name} of ${from}`);
  });
}

/** Paths of documents, examples and the sources of `lib/`, with their own examples. */
async function* texts(folder = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    const path = folder + name;
    if (!isDirectory && /\.(?:md|ts)$/.test(name)) yield path;
    else if (isDirectory && /^(?:lib|scripts)\b/.test(path)) yield* texts(`${path}/`);
  }
}

Deno.test("what documents and examples use of the entries is public", async () => {
  let imports = 0;
  const found: string[] = [];
  for await (const path of texts()) {
    const text = await read(path);
    imports += text.split("@resnette/resnette").length - 1;
    found.push(...missing(text).map((what) => `${path}: ${what}`));
  }
  assert(imports > 60, `only ${imports} imports were found`);
  assertEquals(found, []);
});

Deno.test("an example that imports what is not public is found", () => {
  const from = (names: string, entry = "") => `import ${names} from "@resnette/resnette${entry}";`;
  assertEquals(missing(from("{ relu, type Tensor }")), []);
  assertEquals(missing(from("{\n *   relu,\n *   wgsl as w,\n * }")), [
    "wgsl of @resnette/resnette",
  ]);
  assertEquals(missing(from("type { Tensor }", "/data")), ["Tensor of @resnette/resnette/data"]);
  assertEquals(missing(from("{ relu }", "/nowhere")), ["relu of @resnette/resnette/nowhere"]);
  assertEquals(missing(`${from("* as r")} r.relu(x); r.wgsl(x);`), ["wgsl of @resnette/resnette"]);
});
