"""Images that engines, gateways and the loader of weights run from: which are pinned, and pinning one."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import images
from clusters.models import EngineImage
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction

#: What a use is, and what cannot be done while its image has no digest.
USES: Final = {
    "triton-llmapi": ("TensorRT-LLM under Triton", "Endpoints of this runtime cannot be started."),
    "trtllm-serve": ("TensorRT-LLM's own server", "Endpoints of this runtime cannot be started."),
    "triton-engine": ("Engines built beforehand", "Endpoints of this runtime cannot be started."),
    "triton-python": ("Triton with Python models", "Endpoints of this runtime cannot be started."),
    "gateway": ("Berth's gateway", "No gateway can be deployed in a cluster."),
    "loader": ("Fetches weights", "Models whose weights must be fetched cannot be started."),
}


class ImageForm(ConsoleForm):
    reference = forms.CharField(
        max_length=200, label="Image", help_text="registry/repository:tag, as the clusters reach it."
    )
    digest = forms.CharField(
        max_length=71, required=False, widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
        help_text="sha256: and 64 hexadecimal digits. Empty: nothing is started from it on Kubernetes.",
    )  # fmt: skip
    engine_version = forms.CharField(
        max_length=40, required=False, label="TensorRT-LLM version",
        help_text="Settings of an engine are written for this version. Empty where it has none.",
    )  # fmt: skip
    min_driver = forms.CharField(
        max_length=40, required=False, label="Oldest NVIDIA driver",
        help_text="Nodes with an older one are not planned on. For instance 590.44.01.",
    )  # fmt: skip

    groups = (("", "", ("reference", "digest", "engine_version", "min_driver")),)


class EngineImages(ConsolePage):
    action = PlatformAction.VIEW_OFFER
    reason = "list the images that engines run from"

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = [
            {"image": image, "what": what, "blocks": "" if image.digest else blocks}
            for image in EngineImage.objects.all()
            for what, blocks in [USES.get(image.use, ("", "Nothing can be started from it."))]
        ]
        context = {"rows": rows, "unpinned": sum(not row["image"].digest for row in rows)}
        return self.render("console/engine_images.html", context)


class EngineImageEdit(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "pin an image"
    form_class = ImageForm
    template = "console/engine_image.html"
    title = "Image"
    lede = "Endpoints that run keep the image they were started with; new revisions take this one."
    submit_label = "Save image"

    def heading(self) -> str:
        return f"Image of {self.image.use}"

    @property
    def image(self) -> EngineImage:
        found = EngineImage.objects.filter(use=self.kwargs["use"]).first()
        if found is None:
            raise NotFound("There is no such use of an image.")
        return found

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": "Images", "url": reverse("console:engine-images")}]

    def initial(self) -> dict[str, Any]:
        image = self.image
        return {name: getattr(image, name) for name in ImageForm.base_fields}

    def more_context(self) -> dict[str, Any]:
        reference = self.image.reference
        return {
            "commands": "\n".join(
                (
                    f"crane digest {reference}",
                    f"skopeo inspect --format '{{{{.Digest}}}}' docker://{reference}",
                    f"docker buildx imagetools inspect --format '{{{{.Manifest.Digest}}}}' {reference}",
                )
            )
        }

    def save(self, form: ImageForm) -> HttpResponse:
        image = images.image_set(use=self.image.use, **form.cleaned_data)
        audit(self.request.user, "image.set", use=image.use, reference=image.reference, digest=image.digest)
        self.say(f"The image of {image.use} is {'pinned' if image.digest else 'saved, without a digest'}.")
        return redirect("console:engine-images")
