/**
 * The place to draw: black on white paper, by pen, mouse, finger or arrow keys.
 *
 * @module
 */

/** Pixels that the brush is wide, of 280, and that an arrow key moves it. */
const BRUSH = 22, STEP = 10;

const ARROWS: Readonly<Record<string, readonly [x: number, y: number]>> = {
  ArrowLeft: [-STEP, 0],
  ArrowRight: [STEP, 0],
  ArrowUp: [0, -STEP],
  ArrowDown: [0, STEP],
};

/** A canvas to draw on. */
export class Sketch {
  readonly #context: CanvasRenderingContext2D;
  /** Where the brush is. */
  #at: [x: number, y: number];
  #empty = true;
  #telling = 0;

  /** `onDrawn` is called whenever something was drawn. */
  constructor(readonly canvas: HTMLCanvasElement, readonly onDrawn: (image: ImageData) => void) {
    this.#context = canvas.getContext("2d", { willReadFrequently: true })!;
    this.#at = [canvas.width / 2, canvas.height / 2];
    this.clear();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#begin();
      this.#at = this.#placeOf(event);
      this.#to(this.#at);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.#to(this.#placeOf(each));
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Whether nothing is on the paper. */
  get empty(): boolean {
    return this.#empty;
  }

  /** White paper. */
  clear(): void {
    this.#empty = true;
    this.#paper();
  }

  /** Shows a picture instead: whole, on white, or cut to `fill` the paper. */
  show(
    picture: CanvasImageSource,
    width: number,
    height: number,
    { fill = false }: { readonly fill?: boolean } = {},
  ): ImageData {
    const { canvas } = this, scales = [canvas.width / width, canvas.height / height];
    const scale = fill ? Math.max(...scales) : Math.min(...scales);
    this.clear();
    this.#context.imageSmoothingEnabled = scale < 1;
    this.#context.drawImage(
      picture,
      (canvas.width - scale * width) / 2,
      (canvas.height - scale * height) / 2,
      scale * width,
      scale * height,
    );
    return this.image;
  }

  /** What is on it. */
  get image(): ImageData {
    return this.#context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  #paper(): void {
    this.#context.fillStyle = "#fff";
    this.#context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** A drawing begins on paper: a picture that is shown goes. */
  #begin(): void {
    if (this.#empty) this.#paper();
    this.#empty = false;
  }

  #placeOf({ clientX, clientY }: PointerEvent): [number, number] {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [
      (clientX - left) * this.canvas.width / width,
      (clientY - top) * this.canvas.height / height,
    ];
  }

  #to([x, y]: [number, number]): void {
    const context = this.#context;
    context.strokeStyle = "#000";
    context.lineWidth = BRUSH;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...this.#at);
    context.lineTo(x, y);
    context.stroke();
    this.#at = [x, y];
    this.#drawn();
  }

  /** Tells what is on the paper, once a frame. */
  #drawn(): void {
    this.#telling ||= requestAnimationFrame(() => {
      this.#telling = 0;
      this.onDrawn(this.image);
    });
  }

  #key(event: KeyboardEvent): void {
    const move = ARROWS[event.key];
    if (event.key === "Delete" || event.key === "Backspace") {
      this.clear();
      this.#drawn();
    } else if (move) {
      const { width, height } = this.canvas, [x, y] = this.#at;
      const within = (value: number, most: number) => Math.min(most, Math.max(0, value));
      const to: [number, number] = [within(x + move[0], width), within(y + move[1], height)];
      if (event.shiftKey) {
        this.#begin();
        this.#to(to);
      } else this.#at = to;
    } else return;
    event.preventDefault();
  }
}
