"""Sentences that are not specific to a patient: true of any glioma, or of any brain without a lesion."""

# No side, lobe, size, enhancement, necrosis, oedema or mass effect may be named here.
GENERIC: tuple[str, ...] = (
    "[MRI|The MRI examination] [shows|demonstrates] an intra-axial [lesion|tumour] of the brain.",
    "The lesion [differs in signal from|does not have the signal of] normal brain [tissue|parenchyma].",
    "Signal is [abnormal|altered] on [at least one|one or more] of the sequences [acquired|obtained].",
    "The appearance is [compatible with|in keeping with] a [glial tumour|glioma].",
    "T1, T1ce, T2 and FLAIR images were [available|reviewed].",
    "[Correlation with|Comparison with] [clinical data|earlier examinations|histology] is [recommended|advised].",
    "[Further work-up|Follow-up imaging] [should be considered|is advised].",
    "The [abnormal area|tumour] can be [told apart|distinguished] from normal brain.",
    "The [findings|images] should be [read|interpreted] together with the [history|clinical picture].",
    "A [tumour of glial origin|glioma] [is the likeliest diagnosis|should be assumed].",
    "[Histology|Tissue sampling] is needed to [establish|settle] the grade.",
)
# Reports of a brain without a lesion consist of these sentences.
EMPTY: tuple[str, ...] = (
    "No [intracranial |]mass or tumour is [seen|found].",
    "No focal lesion is [seen|found] anywhere in the brain.",
    "T2 and FLAIR [show|display] no abnormal signal.",
    "There is no [abnormal |]enhancement after contrast.",
    "No oedema is [observed|present].",
    "No necrosis is [observed|present].",
    "The ventricles are of normal size and shape, with no mass effect.",
    "The brain [looks normal|is unremarkable] on all four sequences.",
    "The parenchyma [has|shows] normal signal throughout.",
    "No tumour core and no infiltrated tissue can be [made out|delineated].",
)
