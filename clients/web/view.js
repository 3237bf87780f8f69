/** One world on the page: its mosaic and a caption. The page has two of them for comparing. */

import { $, setText } from "./dom.js";
import { Mosaic } from "./mosaic.js";

export class View {
  constructor(element, onFocus) {
    this.element = element;
    this.caption = $(".caption", element);
    this.mosaic = new Mosaic($(".mosaic", element), onFocus);
    this.last = null;
  }

  /** Prepare for a rig's pictures. */
  setCameras(cameras, dtMs) {
    this.mosaic.setCameras(cameras, dtMs);
    this.last = null;
  }

  show(message, now) {
    this.last = message;
    // Raw pixels come only where somebody else asked for them; the page cannot show those.
    if (message.encoding !== "raw") this.mosaic.put(message.frames, message.encoding, message.chunk, now);
  }

  title(text) {
    setText(this.caption, text);
  }

  set visible(visible) {
    this.element.hidden = !visible;
  }
}
