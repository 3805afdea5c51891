"""The classic U-Net tried on a photograph: its sizes, its training, its layers against PyTorch.

:mod:`polyphase.tools.demo` shows what is found here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyphase.arithmetic.geometry import Geometry
from polyphase.functional import conv_transpose2d
from polyphase.models.unet import Join, UNet, network
from polyphase.tools.check.checking import Report, check
from polyphase.tools.check.loading import Subject
from polyphase.tools.check.measuring import measured_on
from polyphase.tools.progress import Say, silent

Array = NDArray[Any]
Size = tuple[int, ...]
# what a transposed layer was given and what it made of it
Seen = dict[str, tuple[Tensor, Tensor]]

TRAINING_CROP = 64
LEARNING_RATE = 3e-4
GRADIENT_NORM = 1.0
# float32 adds up to 1024 products of these exactly: 1024 * 31 * 15 < 2**24
LARGEST_VALUE, LARGEST_WEIGHT = 31, 15
# rounding of float32 sums, relative to the largest value
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """One transposed layer on a real feature map: polyphase's result beside PyTorch's.

    ``largest`` and ``difference`` are the largest absolute value of PyTorch's result and of the
    difference; ``same_integers`` says whether both results are identical after values and weights
    were rounded to small integers, where float32 is exact.
    """

    name: str
    input_shape: Size
    output_shape: Size
    output_padding: Size
    largest: float
    difference: float
    same_integers: bool

    @property
    def holds(self) -> bool:
        """Whether integers agree exactly and the rest to rounding."""
        return self.same_integers and self.difference <= TOLERANCE * self.largest


def plain(width: int = 64) -> UNet:
    """The U-Net of the demo, whose decoder joins what it makes to the skips as they are."""
    return UNet(in_channels=3, out_channels=1, width=width)


def cropping(width: int = 64) -> UNet:
    """The same, with skips that are cropped as in the paper."""
    return UNet(in_channels=3, out_channels=1, width=width, join="crop")


def mended(width: int = 64) -> UNet:
    """The same, with transposed layers that make the sizes of their skips."""
    return UNet(in_channels=3, out_channels=1, width=width, join="output_size")


BUILDERS: dict[Join, Callable[..., UNet]] = {
    "plain": plain,
    "crop": cropping,
    "output_size": mended,
}


JOINED: dict[Join, str] = {
    "plain": "as they are",
    "crop": "after a crop",
    "output_size": "by output_size",
}


class Trial:
    """A U-Net with one output channel, and the photograph that it is given.

    ``photo`` is ``(H, W, 3)`` of ``uint8``; sizes are ``(height, width)``. There are no trained
    weights to load, so they are drawn from ``seed``; no size depends on them.

    >>> trial = Trial(np.zeros((37, 51, 3), np.uint8), width=2)
    >>> trial.report.output_size, trial.sizes("crop")["output"]
    ((32, 48), (32, 48))
    >>> trial.sizes("output_size")["output"]
    (37, 51)
    """

    def __init__(self, photo: Array, width: int = 64, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.photo = photo
        self.size: Size = photo.shape[:2]
        self.net = plain(width).eval()
        self.image = _standardised(photo)
        self.report = network().report(self.size)

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.numel() for parameter in self.net.parameters())

    @property
    def computed(self) -> dict[str, Size]:
        """What polyphase says that each transposed layer, and the network, make of the photo."""
        rows = self.report.rows
        sizes = {row.layer.name: row.after for row in rows if row.layer.kind == "conv_transpose"}
        return {**sizes, "output": rows[-1].after}

    @property
    def proposed(self) -> dict[str, Size]:
        """What polyphase says that they must make, so that every skip fits."""
        mend = self.report.output_paddings
        sizes = {layer.name: layer.output_size for layer in mend.layers} if mend else self.computed
        return {**sizes, "output": self.size}

    def sizes(self, join: Join) -> dict[str, Size]:
        """What PyTorch makes of the photo, joined in one of the ways of :class:`UNet`."""
        seen, output = self._run(join)
        sizes = {name: tuple(made.shape[2:]) for name, (_, made) in seen.items()}
        return {**sizes, "output": tuple(output.shape[2:])}

    def plain_failure(self) -> str:
        """What PyTorch says where a plain decoder meets a skip that does not fit; "" if all fit."""
        try:
            self._run("plain")
        except RuntimeError as error:
            return str(error)
        return ""

    def train(self, target: Array, steps: int) -> Iterator[float]:
        """Teach the network to make ``target`` ``(H, W)`` of the photo; yields every loss."""
        goal = torch.from_numpy(target.astype(np.float32))[None, None]
        optimiser = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)
        crop = [min(TRAINING_CROP, n // 16 * 16) for n in self.size]
        for _ in range(steps):
            top, left = (
                int(torch.randint(n - length + 1, ()))
                for n, length in zip(self.size, crop, strict=True)
            )
            rows, columns = slice(top, top + crop[0]), slice(left, left + crop[1])
            drawn = self.net(self.image[:, :, rows, columns])
            loss = (drawn - goal[:, :, rows, columns]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), GRADIENT_NORM)
            optimiser.step()
            yield loss.item()

    def activation(self) -> Array:
        """The mended network's output ``(H, W)``."""
        output: Array = self._run("output_size")[1][0, 0].numpy()
        return output

    def check_layers(self) -> list[LayerCheck]:
        """Each transposed layer of the mended network, on the map that reaches it."""
        seen, _ = self._run("output_size")
        modules = dict(self.net.named_modules())
        return [check_layer(name, modules[name], x, y) for name, (x, y) in seen.items()]

    def checked(self, join: Join, say: Say = silent) -> Report:
        """What ``polyphase check`` finds in the network, joined in that way, on the photo."""
        self.net.join = join
        shape = tuple(self.image.shape)
        title = f"U-Net on a photograph, skips joined {JOINED[join]}"
        # the function that builds this network anew, for who wants to repeat the check
        name = f"{__name__}:{BUILDERS[join].__name__}"
        return check(Subject(name, title, self.net, ((shape, "float32"),)), progress=say)

    def measured(self, say: Say = silent) -> Report:
        """The check of the mended network, with its speed on the photo."""
        return measured_on(self.checked("output_size", say), [self.image], say)

    def _run(self, join: Join) -> tuple[Seen, Tensor]:
        self.net.join = join
        with torch.inference_mode(), _watched(self.net) as seen:
            return seen, self.net(self.image)


def check_layer(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> LayerCheck:
    """Compare polyphase's result on ``x`` with ``y``, which ``layer`` made of it.

    >>> layer, x = nn.ConvTranspose2d(2, 1, 2, stride=2), torch.ones(1, 2, 3, 3)
    >>> with torch.inference_mode():
    ...     check = check_layer("up", layer, x, layer(x, output_size=(7, 6)))
    >>> check.output_padding, check.holds
    ((1, 0), True)
    """
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    assert not isinstance(layer.padding, str)
    spatial: dict[str, Any] = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
    }
    base = Geometry(layer.kernel_size, **spatial)
    fitting = base.for_output_size(x.shape[2:], y.shape[2:])
    parameters: dict[str, Any] = {
        **spatial,
        "output_padding": fitting.output_padding,
        "groups": layer.groups,
    }
    weight, bias = layer.weight.detach(), layer.bias.detach()
    ours = conv_transpose2d(x.numpy(), weight.numpy(), bias.numpy(), **parameters)
    whole_x, whole_weight = _integers(x, LARGEST_VALUE), _integers(weight, LARGEST_WEIGHT)
    ours_whole = conv_transpose2d(whole_x.numpy(), whole_weight.numpy(), **parameters)
    theirs_whole = nn.functional.conv_transpose2d(whole_x, whole_weight, **parameters)
    return LayerCheck(
        name,
        tuple(x.shape),
        tuple(y.shape),
        parameters["output_padding"],
        y.abs().max().item(),
        float(np.abs(ours - y.numpy()).max()),
        np.array_equal(ours_whole, theirs_whole.numpy()),
    )


def photograph() -> Array:
    """Chelsea the cat, which scikit-image ships in its wheel (public domain, CC0).

    >>> photograph().shape
    (300, 451, 3)
    """
    photo: Array = import_module("skimage.data").chelsea()
    return photo


def edges(photo: Array) -> Array:
    """Gradient of the luminance ``(H, W)``, from 0 to 1: what the network is to draw.

    >>> photo = np.zeros((4, 4, 3), np.uint8)
    >>> photo[:, 2:] = 255
    >>> edges(photo)[0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    luminance = import_module("skimage.color").rgb2gray(photo)
    gradient: Array = import_module("skimage.filters").sobel(luminance)
    strongest = np.quantile(gradient, 0.99)
    return np.clip(gradient / strongest, 0, 1) if strongest else gradient


def _standardised(photo: Array) -> Tensor:
    """``(1, 3, H, W)`` of mean 0 and deviation 1."""
    image = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[None]
    return (image - image.mean()) / image.std().clamp(min=1)


@contextmanager
def _watched(net: nn.Module) -> Iterator[Seen]:
    """What goes in and out of the transposed layers while the block runs, in order."""
    seen: Seen = {}
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, nn.ConvTranspose2d):

            def keep(_: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                seen[name] = inputs[0], output

            handles.append(module.register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _integers(values: Tensor, largest: int) -> Tensor:
    """``values``, stretched to the range of small integers and rounded to them."""
    peak = values.abs().max()
    return (values * (largest / peak)).round() if peak else values
