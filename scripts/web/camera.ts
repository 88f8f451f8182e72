/**
 * The camera, where there is one and its use is allowed.
 *
 * @module
 */

/** Milliseconds between two pictures. */
const EVERY = 250;

/** Hands out pictures of the camera until it is stopped. */
export class Camera {
  /** What was asked for last: a stop, or another start, makes a start void. */
  #asked: symbol | undefined;
  #stream: MediaStream | undefined;
  #timer = 0;

  /** `video` shows it; `onPicture` gets it now and then. */
  constructor(
    readonly video: HTMLVideoElement,
    readonly onPicture: (video: HTMLVideoElement) => void,
  ) {}

  /** Whether there may be one. */
  static get possible(): boolean {
    return navigator.mediaDevices?.getUserMedia !== undefined;
  }

  /** Whether it is on, or about to be. */
  get on(): boolean {
    return this.#asked !== undefined;
  }

  /** @throws {Error} if there is none, or its use is not allowed. */
  async start(): Promise<void> {
    this.stop();
    const asked = this.#asked = Symbol();
    try {
      const facingMode = "environment";
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode } });
      // Whoever is asked for a permission may take long.
      if (this.#asked !== asked) return stream.getTracks().forEach((track) => track.stop());
      this.#stream = this.video.srcObject = stream;
      await this.video.play();
      if (this.#asked !== asked) return;
      this.#timer = setInterval(() => this.onPicture(this.video), EVERY);
    } catch (error) {
      if (this.#asked !== asked) return;
      this.stop();
      throw error;
    }
  }

  /** Lets go of it. */
  stop(): void {
    this.#asked = undefined;
    clearInterval(this.#timer);
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = undefined;
    this.video.srcObject = null;
  }
}
