"""What every score is called, and which way is better: known to the commands before torch is imported."""

HEADINGS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "fsim": "FSIM",
    "fsimc": "FSIMc",
    "lpips_alex": "LPIPS-alex",
    "lpips_vgg": "LPIPS-vgg",
    "lpips_squeeze": "LPIPS-sq",
    "fid": "FID",
    "kid": "KIDx1000",
    "rank1": "rank-1",
    "verification": "verified",
    "nlda": "NLDA",
    "perceptual_vgg19": "VGG-19",
}
ON_REQUEST = ("perceptual_vgg19",)  # of photographs; as dear as LPIPS-vgg
METRICS = tuple(name for name in HEADINGS if name not in ON_REQUEST)
IN_PERCENT = {"rank1", "verification", "nlda"}
HIGHER_IS_BETTER = {"psnr", "ssim", "ms_ssim", "fsim", "fsimc", *IN_PERCENT}
