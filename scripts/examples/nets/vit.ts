/**
 * A vision transformer (Dosovitskiy et al. 2020), whose tokens are patches. Names are torchvision's.
 *
 *     deno run scripts/examples/nets/vit.ts
 */

import * as r from "@resnette/resnette";

/** The sizes of a transformer, here smaller than any in the paper. */
const SMALL = { size: 28, patch: 7, channels: 1, width: 64, heads: 4, layers: 4, classes: 10 };

/** Multi-head self-attention, `[N, T, width]` → the same. */
class SelfAttention extends r.Module {
  readonly inProjWeight: r.Parameter;
  readonly inProjBias: r.Parameter;
  readonly out_proj: r.Linear;

  constructor(readonly width: number, readonly heads: number) {
    super();
    this.inProjWeight = r.uniformParameter([3 * width, width], width);
    this.inProjBias = r.constantParameter([3 * width], 0);
    this.out_proj = new r.Linear(width, width);
  }

  override forward(x: r.Tensor): r.Tensor {
    const [n, t] = x.shape as [number, number], { width, heads } = this;
    const all = r.reshape(r.linear(x, this.inProjWeight, this.inProjBias), [n, t, 3, heads, -1]);
    const [q, k, v] = [0, 1, 2].map((i) => r.select(r.permute(all, [2, 0, 3, 1, 4]), i));
    const scores = r.matmul(r.mul(q!, (width / heads) ** -0.5), k!, { transposeB: true });
    const y = r.permute(r.matmul(r.softmax(scores), v!), [0, 2, 1, 3]);
    return this.out_proj.call(r.reshape(y, [n, t, width]));
  }
}

/** Attention, then a network of two linear layers on each token; both with a shortcut. */
class EncoderLayer extends r.Module {
  readonly ln_1: r.LayerNorm;
  readonly self_attention: SelfAttention;
  readonly ln_2: r.LayerNorm;
  readonly mlp: r.Sequential;

  constructor(width: number, heads: number) {
    super();
    this.ln_1 = new r.LayerNorm([width], { eps: 1e-6 });
    this.self_attention = new SelfAttention(width, heads);
    this.ln_2 = new r.LayerNorm([width], { eps: 1e-6 });
    this.mlp = new r.Sequential(
      new r.Linear(width, 4 * width),
      new r.GELU(),
      new r.Dropout(0),
      new r.Linear(4 * width, width),
      new r.Dropout(0),
    );
  }

  override forward(x: r.Tensor): r.Tensor {
    const y = r.add(x, this.self_attention.call(this.ln_1.call(x)));
    return r.add(y, this.mlp.call(this.ln_2.call(y)));
  }
}

/** Adds the positions, then runs the layers. */
class Encoder extends r.Module {
  readonly posEmbedding: r.Parameter;
  readonly layers = new r.Sequential();
  readonly ln: r.LayerNorm;

  constructor({ size, patch, width, heads, layers }: typeof SMALL) {
    super();
    this.posEmbedding = r.normalParameter([1, (size / patch) ** 2 + 1, width], 0.02);
    for (let i = 0; i < layers; i++) {
      this.layers.add(new EncoderLayer(width, heads), `encoder_layer_${i}`);
    }
    this.ln = new r.LayerNorm([width], { eps: 1e-6 });
  }

  override forward(x: r.Tensor): r.Tensor {
    return this.ln.call(this.layers.call(r.add(x, this.posEmbedding)));
  }
}

/** `[N, channels, size, size]` → `[N, classes]`. */
export class VisionTransformer extends r.Module {
  readonly classToken: r.Parameter;
  readonly conv_proj: r.Conv2d;
  readonly encoder: Encoder;
  readonly heads: r.Sequential;

  constructor(readonly options: typeof SMALL = SMALL) {
    super();
    const { channels, width, patch, classes } = options;
    this.classToken = r.constantParameter([1, 1, width], 0);
    this.conv_proj = new r.Conv2d(channels, width, { kernelSize: patch, stride: patch });
    this.encoder = new Encoder(options);
    this.heads = new r.Sequential().add(new r.Linear(width, classes), "head");
  }

  override forward(x: r.Tensor): r.Tensor {
    const n = x.shape[0]!, { width } = this.options;
    const tokens = r.permute(r.reshape(this.conv_proj.call(x), [n, width, -1]), [0, 2, 1]);
    const token = r.broadcastTo(this.classToken, [n, 1, width]);
    const y = this.encoder.call(r.concat([token, tokens], 1));
    return this.heads.call(r.squeeze(r.slice(y, [null, [0, 1]]), [1]));
  }
}

if (import.meta.main) {
  console.log(r.formatSummary(r.summarize(new VisionTransformer(), [1, 1, 28, 28])));
}
