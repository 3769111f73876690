"""From photos to a search page in numbered stages: `keras-retrieval demo`."""

from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.progress import status_line

from .demo_options import DemoOptions
from .demo_run import Demo
from .demo_server import stop_server


@takes(DemoOptions)
def demo(options: DemoOptions) -> str:
    """Makes a search page of photos, trains a network on them, and shows what the training changes.

    Without PHOTOS, synthetic photos of buildings are drawn. The network is VGG16 with ImageNet weights or, if they
    cannot be downloaded, a random AlexNet. Its descriptors are searched before and after training, and the mAP is
    printed if the sub-folders of the photos are objects. The training needs neither labels nor folders: it uses 3D
    models of what the photos show, and is kept if it is better on objects that were set aside.

    At the end a server with the search page is left running, until `keras-retrieval demo --stop` or the next demo. A
    demo that was interrupted continues where it was. Each stage runs in processes of its own, whose output is in
    WORK/logs.

    Returns:
        The address of the search page; "" with `stop`.

    Raises:
        ArgumentError: `work` cannot be used.
        FolderError: `work` is inside the folder of the photos.
        PhotoFolderError: the folder of the photos does not exist or contains no photos.
        StepFailedError: a stage failed; the message has the reason and the path of its log.
        MissingExtraError: a package of the extras `serving` or `sfm` is not installed.
    """
    if options.stop:
        print("the demo's server has ended" if stop_server(options.work) else f"no server of {options.work} is running")
        return ""
    with status_line() as show:
        demo = Demo(options, say=lambda text: print(text, flush=True), show=show)
        return demo.run().page
