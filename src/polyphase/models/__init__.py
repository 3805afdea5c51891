"""Real architectures for the demo, the checks and the benchmarks, each written from its paper.

Looking through them needs no torch; building one does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Architecture:
    """A built-in network: what it is, what it takes and where it comes from.

    ``input_shapes`` has one shape per argument of ``forward``, of a size at which the network is
    really used; ``home`` is the module and the class.

    >>> unet = ARCHITECTURES["unet"]
    >>> unet.title, unet.input_shapes
    ('U-Net', ((1, 1, 512, 512),))
    """

    name: str
    title: str
    source: str
    input_shapes: tuple[tuple[int, ...], ...]
    home: str

    def build(self, **options: Any) -> "nn.Module":
        """The network with freshly drawn weights; ``options`` go to its class.

        >>> type(ARCHITECTURES["unet"].build(width=4)).__name__
        'UNet'

        Raises ``ImportError`` with the command that installs torch where it is missing.
        """
        try:
            import_module("torch")
        except ImportError:
            raise ImportError(
                f"building {self.name} needs torch; install it with: pip install 'polyphase[torch]'"
            ) from None
        module, _, cls = self.home.partition(":")
        network: nn.Module = getattr(import_module(module), cls)(**options)
        return network


def build(name: str, **options: Any) -> "nn.Module":
    """The built-in network of that name, with freshly drawn weights.

    >>> type(build("unet", width=4)).__name__
    'UNet'

    Raises ``ValueError`` that lists the names for an unknown one.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"name must be one of {', '.join(ARCHITECTURES)}, got {name!r}")
    return ARCHITECTURES[name].build(**options)


def _by_name(architectures: Iterable[Architecture]) -> dict[str, Architecture]:
    return {architecture.name: architecture for architecture in architectures}


ARCHITECTURES = _by_name(
    (
        Architecture(
            "unet",
            "U-Net",
            "Ronneberger, Fischer & Brox 2015, arXiv 1505.04597",
            ((1, 1, 512, 512),),
            "polyphase.models.unet:UNet",
        ),
        Architecture(
            "unet3d",
            "3-D U-Net, nnU-Net's plan",
            "Isensee et al. 2021, arXiv 1904.08128",
            ((1, 1, 128, 128, 128),),
            "polyphase.models.unet3d:UNet3d",
        ),
        Architecture(
            "dcgan",
            "DCGAN generator",
            "Radford, Metz & Chintala 2016, arXiv 1511.06434",
            ((64, 100, 1, 1),),
            "polyphase.models.dcgan:DCGANGenerator",
        ),
        Architecture(
            "vae",
            "VAE decoder of World Models",
            "Ha & Schmidhuber 2018, arXiv 1803.10122",
            ((32, 32),),
            "polyphase.models.vae:VAEDecoder",
        ),
        Architecture(
            "fcn8s",
            "FCN-8s head",
            "Long, Shelhamer & Darrell 2015, arXiv 1411.4038",
            ((1, 3, 500, 500), (1, 256, 88, 88), (1, 512, 44, 44), (1, 4096, 16, 16)),
            "polyphase.models.fcn:FCN8sHead",
        ),
        Architecture(
            "sam",
            "Mask upscaler of Segment Anything",
            "Kirillov et al. 2023, arXiv 2304.02643",
            ((1, 256, 64, 64),),
            "polyphase.models.sam:SAMUpscaler",
        ),
        Architecture(
            "pose",
            "Simple baseline pose head",
            "Xiao, Wu & Wei 2018, arXiv 1804.06208",
            ((8, 2048, 8, 6),),
            "polyphase.models.pose:PoseHead",
        ),
        Architecture(
            "fsrcnn",
            "FSRCNN x3",
            "Dong, Loy & Tang 2016, arXiv 1608.00367",
            ((1, 1, 85, 85),),
            "polyphase.models.fsrcnn:FSRCNN",
        ),
        Architecture(
            "hifigan",
            "HiFi-GAN generator V1",
            "Kong, Kim & Bae 2020, arXiv 2010.05646",
            ((1, 80, 100),),
            "polyphase.models.hifigan:HiFiGANGenerator",
        ),
        Architecture(
            "encodec",
            "EnCodec decoder, 24 kHz",
            "Défossez et al. 2022, arXiv 2210.13438",
            ((1, 128, 75),),
            "polyphase.models.encodec:EnCodecDecoder",
        ),
        Architecture(
            "dac",
            "DAC decoder, 44.1 kHz",
            "Kumar et al. 2023, arXiv 2306.06546",
            ((1, 1024, 86),),
            "polyphase.models.dac:DACDecoder",
        ),
    )
)
