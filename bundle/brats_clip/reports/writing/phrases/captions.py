"""One short sentence per case, for contrastive pretraining."""

CAPTIONS: tuple[str, ...] = (
    "{size_cap} {adj} [tumour|glioma|lesion] {enhancing}.",
    "[A|One] {size} [lesion|tumour|mass] {at} {enhancing}.",
    "[MRI|Brain MRI|MR image] of a {size} {adj} tumour {enhancing}.",
    "{adj_cap} [glioma|tumour], {size}, {enhancing}.",
    "[Brain tumour|Glioma] {at}, {size}, {enhancing}.",
    "{cap_at}, a {size} tumour {enhancing}.",
    "[There is a|This is a] {size} {adj} [lesion|tumour] {enhancing}.",
    "[Tumour|Lesion] of {tumour_ml} {at} {enhancing}.",
    "{adj_cap} [tumour|lesion] of {tumour_ml} {enhancing}.",
)
ENHANCING: dict[str, tuple[str, ...]] = {
    "none": ("without enhancement", "with no contrast uptake", "that does not enhance", "without contrast enhancement"),
    "thin rim": ("with thin rim enhancement", "with a thin enhancing ring", "with a fine enhancing wall"),
    "thick rim": ("with thick rim enhancement", "with a thick enhancing ring", "with a broad enhancing wall"),
    "nodular": ("with nodular enhancement", "with an enhancing nodule", "with a focal enhancing nodule"),
    "patchy": ("with patchy enhancement", "with scattered enhancement", "with enhancing patches"),
    "solid": ("with solid enhancement", "with a solid enhancing core", "that enhances solidly"),
}
EMPTY_CAPTIONS: tuple[str, ...] = (
    "Brain MRI without a tumour.",
    "[Normal|Unremarkable] brain, no [lesion|tumour|mass].",
    "No [tumour|lesion] is [seen|found] in this brain.",
    "MR images of a brain [free of|with no] tumour.",
    "[There is no|No] intracranial [mass|tumour].",
    "A brain without any [focal |]lesion.",
    "No [abnormal signal|focal abnormality] in the brain.",
    "Healthy-looking brain, no tumour.",
)
