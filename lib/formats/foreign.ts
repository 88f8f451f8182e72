/**
 * Recognizes files of other formats that are given instead of safetensors, by how they begin.
 *
 * @module
 */

const SAVE = 'in Python: `safetensors.torch.save_file(state_dict, "model.safetensors")`, with ';
const TORCH = SAVE +
  '`state_dict = torch.load(FILE, map_location="cpu")`; if that is a checkpoint, take its entry ' +
  '`["state_dict"]`, `["model"]` or the like; if it is a whole module, take ' +
  '`torch.load(FILE, map_location="cpu", weights_only=False).state_dict()`, which runs code of ' +
  "the file";
const NUMPY =
  'in Python: `safetensors.numpy.save_file(dict(numpy.load(FILE)), "model.safetensors")`';

const ZIP = "PK\x03\x04";
const byte = String.fromCharCode;

/** Formats that are taken for safetensors: how they begin, what they are and what to do; what else is near. */
const FOREIGN: readonly [begins: string | string[], what: string, holds?: string][] = [
  [ZIP, `this is a PyTorch pickle (a zip); ${TORCH}`, ".pkl"],
  [ZIP, `this is NumPy's npz (a zip); ${NUMPY}`, ".npy"],
  [
    ZIP,
    "this is a zip; unpack it, or, if it is PyTorch's, " + SAVE +
    "`state_dict = torch.jit.load(FILE).state_dict()` of TorchScript, or else `torch.load(FILE)`",
  ],
  [
    [2, 3, 4, 5].map((protocol) => `\x80${byte(protocol)}`),
    `this is a pickle, as old versions of PyTorch wrote them; ${TORCH}`,
  ],
  ["\x93NUMPY", "this is NumPy's npy, one array without a name; save a dict of arrays instead"],
  [
    "\x89HDF\r\n\x1a\n",
    "this is HDF5, as Keras and h5py write it; in Python, read it with `h5py.File(FILE)` and write a " +
    'dict of its arrays with `safetensors.numpy.save_file(arrays, "model.safetensors")`',
  ],
  [
    // The format's version, and then the producer's name.
    Array.from({ length: 31 }, (_, i) => `\x08${byte(i + 1)}\x12`),
    "this looks like ONNX, which is only written here; give the checkpoint that it was made from",
  ],
  ["GGUF", "this is GGUF; give the model's safetensors"],
  ["\x1f\x8b", "this is gzip; unpack it"],
  [["\x89PNG", "\xff\xd8\xff", "RIFF"], "this is an image"],
  ["version https://git-lfs", "this is a pointer of Git LFS; get the file with `git lfs pull`"],
  [["<!", "<html", "<HTML"], "this is a web page; download the file itself"],
];

/** What a file is by its first bytes, and what to do, where that is another format than safetensors. */
export function foreignFormat(bytes: Uint8Array): string | undefined {
  // Where a header begins, it is safetensors, whatever the length before it looks like.
  if (bytes[8] === 0x7b) return undefined;
  const head = String.fromCharCode(...bytes.subarray(0, 128));
  return FOREIGN.find(([begins, , holds = ""]) =>
    [begins].flat().some((start) => head.startsWith(start)) && head.includes(holds)
  )?.[1];
}
