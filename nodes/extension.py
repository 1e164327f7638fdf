"""The pack as ComfyUI sees it: model folders, routes, nodes, and what replaces others' nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    align,
    compare,
    consistency,
    degrade,
    detect,
    example,
    finetune,
    folders,
    loaders,
    measure,
    pairs,
    repair,
    replacements,
    report,
    restore,
    restore_folder,
    review,
    routes,
    sampling,
    save,
    video,
)


class FaceRestorationExtension(ComfyExtension):
    """All nodes of the pack; their ids are public and only ever added to."""

    async def on_load(self) -> None:
        folders.register_folders()
        routes.register_routes()
        await replacements.register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            loaders.LoadFaceDetector,
            loaders.LoadRestorer,
            loaders.LoadFaceParser,
            detect.DetectFaces,
            detect.SelectFaces,
            align.AlignFaces,
            restore.RestoreFaces,
            align.PasteFaces,
            restore.RestorePhoto,
            example.LoadExamplePhoto,
            loaders.LoadPrior,
            sampling.SamplePseudoTargets,
            sampling.SweepGuidance,
            pairs.BuildTrainingPairs,
            review.LoadTrainingPairs,
            review.ReviewTrainingPairs,
            consistency.ApplyConsistency,
            finetune.FinetuneRestorer,
            save.SaveRestorer,
            degrade.DegradeFaces,
            measure.MeasureFaces,
            video.RestoreVideo,
            example.LoadExampleVideo,
            compare.CompareImages,
            report.ShowReport,
            replacements.RestorePhotoWith,
            restore_folder.RestoreFolder,
            repair.RepairScratches,
            degrade.LearnDamage,
            loaders.LoadFaceRecognizer,
            repair.FindScratches,
        ]
