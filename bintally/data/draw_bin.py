"""The drawn bin without its contents: fabric walls, elastic bands, hems and labels, and the camera that looks at it."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from bintally.data.draw_print import font, soft_noise
from bintally.data.draw_products import Colour

_FABRIC: Colour = (243, 222, 155)
_PANELS: tuple[Colour, ...] = (
    *((36, 44, 88), (214, 70, 62), (132, 180, 226), (240, 160, 170), (240, 132, 84), (112, 74, 56)),
    *((52, 26, 66), (40, 150, 160), (36, 84, 66), (236, 200, 120)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinShape:
    """Where what is in a drawn bin's picture, in pixels of the canvas.

    Attributes:
        width: of the canvas.
        height: of the canvas.
        per_inch: pixels an inch at the bin's front.
        left: inner edge of the left wall at the front.
        right: inner edge of the right wall at the front.
        top: lower edge of the upper hem.
        floor: where the floor ends at the front; a little below the edge of the lower hem.
        hem: upper edge of the lower hem.
        back: left, top, right and lower edge of the back wall.
    """

    width: int
    height: int
    per_inch: float
    left: float
    right: float
    top: float
    floor: float
    hem: float
    back: tuple[float, float, float, float]


def make_shape(rng: np.random.Generator, side: float, num_things: int) -> BinShape:
    """A bin of one of the shapes that bins have: most of them shallow, some square, some tall.

    Args:
        rng: decides.
        side: geometric mean of width and height of the canvas in pixels.
        num_things: how many things it is to hold; many things are put into large bins.
    """
    low, high = ((1.3, 1.68), (0.95, 1.3), (0.62, 0.95))[int(rng.choice(3, p=(0.55, 0.22, 0.23)))]
    aspect = float(rng.uniform(low, high))
    side *= float(rng.uniform(0.88, 1.14))
    width, height = round(side * aspect**0.5), round(side / aspect**0.5)
    inches = float(rng.uniform(9.0, 12.5)) * (1 + 0.045 * max(0, num_things - 4))
    tall = aspect < 0.95
    top = height * float(rng.uniform(0.05, 0.12))
    hem = height * float(rng.uniform(0.82, 0.93))
    left = width * (float(rng.uniform(0.005, 0.05)) if rng.random() < 0.75 else 0.1)
    right = width * (1 - (float(rng.uniform(0.0, 0.05)) if rng.random() < 0.8 else 0.1))
    depth = float(rng.uniform(0.06, 0.13))
    back = (
        left + depth * width,
        top + (0.0 if tall else 0.5 * depth * height),
        right - depth * width,
        hem - float(rng.uniform(0.3, 1.2)) * depth * height,
    )
    return BinShape(
        width=width,
        height=height,
        per_inch=width / inches,
        left=left,
        right=right,
        top=top,
        floor=hem + height * 0.02,
        hem=hem,
        back=back,
    )


def paint_inside(rng: np.random.Generator, shape: BinShape) -> Image.Image:
    """The empty bin behind everything: back wall, side walls, floor, seams; an RGB picture of the canvas."""
    width, height = shape.width, shape.height
    left, top, right, low = shape.back
    inside = Image.new("RGB", (width, height), _dim(0.5))
    draw = ImageDraw.Draw(inside)
    draw.polygon(((shape.left, shape.top), (left, top), (left, low), (shape.left, shape.floor)), fill=_dim(0.6))
    draw.polygon(((shape.right, shape.top), (right, top), (right, low), (shape.right, shape.floor)), fill=_dim(0.52))
    draw.rectangle((left, top, right, low), fill=_dim(0.56))
    floor = (168, 142, 108) if rng.random() < 0.6 else _dim(0.64)
    draw.polygon(((left, low), (right, low), (shape.right, shape.floor), (shape.left, shape.floor)), fill=floor)
    for x, y, end_x, end_y in (
        (left, top, left, low),
        (right, top, right, low),
        (left, low, right, low),
        (left, low, shape.left, shape.floor),
        (right, low, shape.right, shape.floor),
    ):
        draw.line((x, y, end_x, end_y), fill=_dim(0.5), width=max(1, width // 220))
    folds = 1 + 0.07 * soft_noise(rng, width, height, 3)
    shadow = np.linspace(float(rng.uniform(0.55, 0.95)), 1.05, height, dtype=np.float32)[:, None]
    values = np.asarray(inside, dtype=np.float32) * (folds * shadow)[..., None]
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _dim(by: float) -> Colour:
    # In the depth of the bin the yellow turns olive: less red than green is left.
    red, green, blue = _FABRIC
    return round(red * by), round(green * by * 1.02), round(blue * by * 0.96)


@dataclass(frozen=True, slots=True)
class Front:
    """What hangs before a bin's contents.

    Attributes:
        strands: the elastic bands, RGB.
        cover: how much of what lies behind the bands they hide, L.
        frame: hems, posts, labels, cord, RGBA.
        free: where nothing opaque hangs before the contents: bool array (height, width).
    """

    strands: Image.Image
    cover: Image.Image
    frame: Image.Image
    free: NDArray[np.bool_]


def paint_front(rng: np.random.Generator, shape: BinShape, bands: float = 1.0) -> Front:
    """Paints the elastic bands, as thick as `bands` says (0 none, 1 as real ones), and the yellow frame."""
    strands, cover = _bands(rng, shape)
    frame = _frame(rng, shape)
    cover = Image.blend(Image.new("L", cover.size), cover, bands)
    free = np.asarray(frame.getchannel("A")) < 128
    return Front(strands, cover, frame, free)


def _bands(rng: np.random.Generator, shape: BinShape) -> tuple[Image.Image, Image.Image]:
    width, height = shape.width, shape.height
    spans = _band_spans(rng, shape)
    fine = 4  # rows of the profile to one of the picture, so that thin strands may lie between rows
    rows = np.arange(-height * fine // 4, height * fine * 5 // 4, dtype=np.float32) / fine
    pitch = max(2.2, shape.per_inch * float(rng.uniform(0.1, 0.17)))
    thick = float(rng.uniform(0.3, 0.75))
    profile = np.zeros_like(rows)
    for low, high in spans:
        phase = (rows - low) / pitch
        strand = np.clip(1.6 * (np.cos(2 * np.pi * phase) + 2 * thick - 1) + 0.5, 0, 1)
        # Each strand has its own brightness: some are stretched thin.
        own = 0.75 + 0.25 * rng.random(int(np.ptp(rows) / pitch) + 3).astype(np.float32)
        at = np.clip((phase - phase.min() + 0.5).astype(np.int64), 0, len(own) - 1)
        within = np.clip((rows - low) * 2, 0, 1) * np.clip((high - rows) * 2, 0, 1)
        profile = np.maximum(profile, within * (0.2 + 0.62 * strand * own[at]))
    x = np.linspace(-1, 1, width, dtype=np.float32)
    bend = height * (float(rng.normal(0, 0.012)) * x + float(rng.normal(0, 0.012)) * (1 - x * x))
    index = (np.arange(height, dtype=np.float32)[:, None] - bend[None] - rows[0]) * fine
    cover = profile[np.clip(index.astype(np.int32), 0, len(rows) - 1)]
    # The sewn ends of the bands are tight and opaque.
    for start, stop in ((0.0, shape.left + 0.03 * width), (shape.right - 0.02 * width, float(width))):
        if rng.random() < 0.5:
            ends = cover[:, round(start) : round(stop)]
            np.copyto(ends, np.where(ends > 0.1, np.maximum(ends, 0.85), ends))
    colour = np.array((214, 196, 176), dtype=np.float32) * float(rng.uniform(0.85, 1.05))
    # The camera's colour filter and the strands beat: faint orange and blue rows, as real ones show.
    beat = 9 * np.sin(2 * np.pi * np.arange(height) / max(4.0, pitch * 3.3) + rng.uniform(0, 6)).astype(np.float32)
    stripe = np.clip(colour[None] + beat[:, None] * np.array((1.0, 0.1, -1.0), dtype=np.float32), 0, 255)
    strands = np.repeat(stripe[:, None].astype(np.uint8), width, axis=1)
    return Image.fromarray(strands), Image.fromarray((cover * 255).astype(np.uint8))


def _band_spans(rng: np.random.Generator, shape: BinShape) -> list[tuple[float, float]]:
    inner = shape.hem - shape.top
    if shape.width / shape.height > 1.3:
        if rng.random() < 0.36:  # one wide band over nearly everything
            return [
                (shape.top + inner * float(rng.uniform(0.08, 0.3)), shape.hem - inner * float(rng.uniform(0, 0.1)))
            ]
        places: tuple[float, ...] = (0.3, 0.78)
    elif shape.width / shape.height > 0.95:
        places = (0.24, 0.75) if rng.random() < 0.5 else (0.2, 0.52, 0.84)
    elif rng.random() < 0.45:  # an open top: only the lower part is held
        return [(shape.top + inner * float(rng.uniform(0.5, 0.66)), shape.hem - inner * float(rng.uniform(0, 0.05)))]
    else:
        places = (0.22, 0.52, 0.82)
    spans = []
    for place in places:
        middle = shape.top + inner * (place + float(rng.normal(0, 0.03)))
        half = inner * float(rng.uniform(0.38, 0.58)) / len(places) / 2
        spans.append((middle - half, middle + half))
    return spans


def _frame(rng: np.random.Generator, shape: BinShape) -> Image.Image:
    width, height = shape.width, shape.height
    frame = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(frame)
    thread = max(1, width // 160)
    bright, seam, dark = (*_FABRIC, 255), (*_dim(0.8), 255), (*_dim(0.45), 255)
    left, right = shape.left * float(rng.uniform(0.2, 1.0)), shape.right + (width - shape.right) * rng.uniform(0, 0.8)
    for start, stop, inner in ((0.0, left, left), (right, float(width), right)):
        if stop - start > 2:
            draw.rectangle((start, 0, stop, height), fill=(*_dim(0.92), 255))
            draw.line((inner, 0, inner, height), fill=dark, width=thread)
    if rng.random() < 0.35:  # the edge of the fabric wall runs down within the picture
        x = width * float(rng.choice((rng.uniform(0.03, 0.09), rng.uniform(0.92, 0.98))))
        draw.line((x, 0, x + rng.normal(0, 2), height), fill=bright, width=max(2, width // 50))
        draw.line((x + width // 90, 0, x + width // 90, height), fill=dark, width=1)
    sag = height * float(rng.normal(0.012, 0.012))
    tilt = height * float(rng.normal(0, 0.012))
    lower = [(x * width / 12, shape.hem + sag * (1 - (x / 6 - 1) ** 2) + tilt * (x / 6 - 1)) for x in range(13)]
    draw.polygon([*lower, (width, height), (0, height)], fill=bright)
    draw.line(lower, fill=seam, width=thread)
    draw.line([(x, y + height * 0.035) for x, y in lower], fill=seam, width=1)
    if width / height < 0.95 and rng.random() < 0.5:  # the pod's metal bar above the uppermost bins
        draw.rectangle((0, 0, width, shape.top * 0.8), fill=(176, 172, 172, 255))
        draw.line((0, shape.top * 0.8, width, shape.top * 0.8), fill=(110, 104, 104, 255), width=thread * 2)
    else:
        upper = [(x * width / 12, shape.top - 0.6 * sag * (1 - (x / 6 - 1) ** 2)) for x in range(13)]
        draw.polygon([*upper, (width, 0), (0, 0)], fill=bright)
        draw.line([(x, y - height * 0.02) for x, y in upper], fill=seam, width=1)
        draw.line(upper, fill=dark, width=thread)
        if rng.random() < 0.8:  # the label of the bin above
            name = _label(rng, width * 0.4)
            x, y = width * float(rng.uniform(0.22, 0.4)), shape.top - name.height * float(rng.uniform(0.8, 1.1))
            frame.paste(name, (round(x), round(y)), name)
    if rng.random() < 0.92:
        name = _label(rng, width * 0.42).rotate(-float(np.degrees(np.arctan2(tilt, width / 2))), expand=True)
        x, y = width * float(rng.uniform(0.26, 0.36)), lower[6][1] + height * float(rng.uniform(0.005, 0.04))
        frame.paste(name, (round(x), round(y)), name)
    if rng.random() < 0.12:
        y = height * float(rng.uniform(0.4, 0.65))
        rope = (0, y, width * 0.5, y + height * rng.normal(0, 0.02), width, y + height * rng.normal(0, 0.03))
        draw.line(rope, fill=(*_dim(0.98), 255), width=max(2, height // 70))
    if rng.random() < 0.08:
        _hook(draw, width, height * float(rng.uniform(0.4, 0.75)), height * float(rng.normal(0, 0.05)))
    values = np.asarray(frame, dtype=np.float32)
    values = values * np.append(np.ones(3, dtype=np.float32), 0)  # the fabric is not flat; what it hides stays
    values[..., :3] *= (1 + 0.045 * soft_noise(rng, width, height, 6))[..., None]
    shaded = Image.fromarray(np.clip(values[..., :3], 0, 255).astype(np.uint8)).convert("RGBA")
    shaded.putalpha(frame.getchannel("A"))
    return shaded


def _hook(draw: ImageDraw.ImageDraw, width: int, y: float, fall: float) -> None:
    """The metal rod and eye that braces some pods, straight across the picture."""
    thick = max(3, width // 38)
    draw.line((0, y, width * 0.45, y + fall * 0.45), fill=(74, 70, 70, 255), width=thick)
    draw.line((width * 0.5, y + fall * 0.5, width, y + fall), fill=(150, 146, 144, 255), width=thick)
    draw.line(
        (width * 0.5, y + fall * 0.5 - 1, width, y + fall - 1), fill=(206, 202, 198, 255), width=max(1, thick // 3)
    )
    eye = (width * 0.4, y + fall * 0.5 - thick * 1.2, width * 0.54, y + fall * 0.5 + thick * 1.2)
    draw.ellipse(eye, outline=(176, 172, 168, 255), width=max(2, thick // 2))


def _label(rng: np.random.Generator, width: float) -> Image.Image:
    """A bin label in its clear pocket: a code, an arrow, a square code, a bar code, on a coloured card."""
    wide, high = round(width), max(8, round(width * 0.27))
    panel = _PANELS[int(rng.integers(len(_PANELS)))]
    label = Image.new("RGBA", (wide, high), (226, 206, 160, 255))
    draw = ImageDraw.Draw(label)
    draw.rectangle((0, 0, wide - 1, high - 1), outline=(244, 234, 210, 255), width=max(1, high // 14))
    draw.rectangle((wide * 0.06, high * 0.14, wide * 0.94, high * 0.84), fill=(*panel, 255))
    draw.rectangle((wide * 0.13, high * 0.22, wide * 0.5, high * 0.78), fill=(238, 234, 228, 255))
    size = round(high * 0.5)
    code = f"{int(rng.integers(1, 5))}{rng.choice(list('ABCDEFGHIJK'))}"
    ink = (40, 34, 40, 255)
    draw.text((wide * 0.15, high * 0.2), code, fill=ink, font=font(max(5, size)), stroke_width=max(0, size // 14))
    x, top, low = wide * 0.44, high * 0.3, high * 0.7
    draw.line((x, top, x, low), fill=ink, width=max(1, high // 12))
    draw.polygon(((x - high * 0.11, top + high * 0.12), (x + high * 0.11, top + high * 0.12), (x, top)), fill=ink)
    cells = Image.fromarray((rng.random((9, 9)) < 0.5).astype(np.uint8) * 200 + 36)
    side = round(high * 0.58)
    draw.rectangle((wide * 0.62, high * 0.18, wide * 0.62 + side * 1.15, high * 0.8), fill=(238, 234, 228, 255))
    label.paste(
        cells.resize((side, side), Image.Resampling.NEAREST).convert("RGBA"),
        (round(wide * 0.62 + side * 0.08), round(high * 0.2)),
    )
    draw.rectangle((wide * 0.84, high * 0.18, wide * 0.9, high * 0.8), fill=(238, 234, 228, 255))
    for line in range(7):
        y = high * (0.22 + 0.08 * line)
        draw.line((wide * 0.85, y, wide * 0.89, y), fill=ink, width=1)
    return label


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """How one photo is taken.

    Attributes:
        size: width and height of the photo in pixels.
        box: what of the canvas it shows: left, top, right, bottom.
        blur: radius of the blur in pixels of the photo.
        gain: brightness of each channel; 1 is as usual.
        veil: the grey of what should be black, 0-255 each channel.
        noise: standard deviation of the sensor's noise, 0-255.
        quality: of the JPEG.
    """

    size: tuple[int, int]
    box: tuple[float, float, float, float]
    blur: float
    gain: tuple[float, float, float]
    veil: tuple[float, float, float]
    noise: float
    quality: int


def take(rng: np.random.Generator, canvas: Image.Image, shot: Shot) -> bytes:
    """Takes the photo: crop, focus, exposure, vignette, noise; the bytes of a JPEG file."""
    picture = canvas.resize(shot.size, Image.Resampling.HAMMING, box=shot.box)
    if shot.blur > 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(shot.blur))
    width, height = shot.size
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1 - 0.05 * (x[None] ** 2 + y[:, None] ** 2)
    values = np.asarray(picture, dtype=np.float32)
    # A real bin's photo is flat: black things are brown-grey, white ones beige.
    values = values * (vignette[..., None] * np.asarray(shot.gain, dtype=np.float32)) + np.asarray(
        shot.veil, dtype=np.float32
    )
    if shot.noise:
        values += shot.noise * rng.standard_normal((height, width, 1), dtype=np.float32)
    file = io.BytesIO()
    final = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    final.save(file, "JPEG", quality=shot.quality, subsampling="4:2:0")
    return file.getvalue()
