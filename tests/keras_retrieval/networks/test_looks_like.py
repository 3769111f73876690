"""What a file of weights looks like, from the names and shapes of its tensors."""

import pytest

from keras_retrieval.networks.looks_like import looks_like


def resnet(*blocks, parts=3, width=64, inner=64):
    """The convolutions of a torch ResNet."""
    return {
        f"layer{stage}.{block}.conv{part}.weight": (width, inner, 3, 3)
        for stage, count in enumerate(blocks, start=1)
        for block in range(count)
        for part in range(1, parts + 1)
    }


def convnext(depth, width, stem="downsample_layers.0.0.weight"):
    return {stem: (width, 3, 4, 4)} | {f"stages.2.{block}.dwconv.weight": (width, 1, 7, 7) for block in range(depth)}


@pytest.mark.parametrize(
    ("shapes", "answer"),
    [
        ({}, ""),
        ({"something.else": (3,)}, ""),
        ({"state.0.exp_avg": (3,), "state.0.exp_avg_sq": (3,)}, "the state of an optimizer, without a network"),
        ({"cls_token": (1, 1, 384), "blocks.0.ls1.gamma": (384,)}, "a DINOv2 of width 384"),
        (
            {"cls_token": (1, 1, 768), "blocks.0.ls1.gamma": (768,), "register_tokens": (1, 4, 768)},
            "a DINOv2 of width 768 with registers",
        ),
        ({"cls_token": (1, 1, 384), "storage_tokens": (1, 4, 384)}, "a DINOv3 of width 384"),
        ({"cls_token": (1, 1, 192)}, "a vision transformer (ViT) of width 192"),
        ({"visual.class_embedding": (768,)}, "a CLIP whose image transformer has width 768"),
        (
            {"vision_model.embeddings.position_embedding.weight": (196, 768)},
            "a SigLIP whose image transformer has width 768",
        ),
        ({"class_token": (1, 1, 768)}, "a vision transformer (torchvision's ViT) of width 768"),
        ({"layers.0.attn.relative_position_bias_table": (169, 3)}, "a Swin Transformer"),
        (convnext(9, 96), "a ConvNeXt-T"),
        (convnext(27, 128, "stem.0.weight"), "a ConvNeXt-B"),
        (convnext(9, 100), "a ConvNeXt of width 100"),
        (resnet(2, 2, 2, 2, parts=2), "a ResNet18"),
        (resnet(3, 4, 23, 3), "a ResNet101"),
        (resnet(3, 4, 6, 3, width=128, inner=128), "a ResNet50 of width 128 in place of 64"),
        (resnet(3, 4, 6, 3, width=128, inner=4), "a ResNeXt (ResNet50 with grouped convolutions)"),
        (resnet(1, 1, 1, 1), "a ResNet of 1-1-1-1 blocks"),
        ({"features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5)}, "an AlexNet"),
        (
            {f"features.{n}.weight": (64, 64, 3, 3) for n in range(13)} | {"features.1.running_mean": (64,)},
            "a VGG16 with batch normalisation",
        ),
        ({"conv_stem.weight": (32, 3, 3, 3)}, "an EfficientNet or MobileNet of timm"),
        ({"Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3)}, "an Inception"),
        ({f"block5_conv{n}/kernel": (3, 3, 512, 512) for n in (1, 2, 3, 4)}, "a VGG19 of Keras"),
        ({"block1a_project_conv/kernel": (1, 1, 32, 16)}, "an EfficientNet of Keras"),
        ({"expanded_conv_project/kernel": (1, 1, 16, 8)}, "a MobileNet of Keras"),
        ({"conv1/kernel": (11, 11, 3, 64), "conv5/kernel": (3, 3, 256, 256)}, "an AlexNet of this package"),
        ({"rpn.head.conv.weight": (1,), "roi_heads.box.weight": (1,)}, "a detector (Faster R-CNN)"),
        ({"query_embed.x": (1,), "transformer.x": (1,)} | resnet(3, 4, 6, 3), "a detector (DETR) on a ResNet50"),
        ({"model.0.conv.weight": (16, 3, 3, 3)}, "a detector (YOLO)"),
        ({"bbox_head.weight": (1,)}, "a detector"),
    ],
)  # fmt: skip
def test_networks_are_told_by_their_tensors(shapes, answer):
    assert looks_like(shapes) == answer
