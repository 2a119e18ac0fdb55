"""Report texts of our own, and what a careful reader reads in them.

Written before the reader was mended for their kinds. ``None`` means not understood or not stated; a tuple in a set
(``Any``) lists answers that are all acceptable.
"""

from __future__ import annotations


class Any(tuple):
    """Acceptable answers."""


LEFT_OR_NOT, RIGHT_OR_NOT = Any(("left", None)), Any(("right", None))
PRESENT_OR_NOT, ABSENT_OR_NOT = Any(("present", None)), Any(("absent", None))
NO_OR_NOT, YES_OR_NOT = Any((False, None)), Any((True, None))

TEXTS: list[tuple[str, str, dict]] = [
    # Sections and history.
    (
        "history",
        "CLINICAL HISTORY: 54-year-old with left temporal glioblastoma resected in 2020, now new seizures.\n"
        "TECHNIQUE: MRI of the brain without and with contrast.\n"
        "FINDINGS: There is an enhancing mass in the right parietal lobe with surrounding edema.",
        {"side": "right", "lobes": ["parietal"], "enhancement": "present", "oedema": True},
    ),
    (
        "history",
        "INDICATION: follow-up of right occipital metastasis.\nCOMPARISON: 01/2021.\n\nFINDINGS:\nNonenhancing T2 lesion in "
        "the left insula.\n\nIMPRESSION:\nLeft insular low-grade glioma.",
        {"side": "left", "lobes": ["insular"], "enhancement": "absent"},
    ),
    (
        "history",
        "Comparison is made with the prior study, which showed a right cerebellar lesion. Today: solitary enhancing mass in "
        "the left frontal lobe.",
        {"side": "left", "lobes": ["frontal"], "enhancement": "present"},
    ),
    (
        "history",
        "S/p right temporal lobectomy. Recurrent tumor in the left parietal lobe.",
        {"side": "left", "lobes": ["parietal"]},
    ),
    (
        "history",
        "History of left mastectomy. Ring enhancing lesion right occipital.",
        {"side": "right", "lobes": ["occipital"]},
    ),
    (
        "history",
        "Postoperative changes after left frontal craniotomy. The tumor is located in the right thalamus.",
        {"side": "right", "lobes": ["deep"]},
    ),
    (
        "history",
        "TECHNIQUE: Axial T1, T2, FLAIR and post-contrast enhanced T1.\nFINDINGS: Left temporal mass. No enhancement.",
        {"side": "left", "lobes": ["temporal"], "enhancement": "absent"},
    ),
    (
        "history",
        "Known right frontal glioma, operated 2017. At present there is a new lesion in the left cerebellar hemisphere.",
        {"lobes": Any((("cerebellum",), ("frontal", "cerebellum"))), "side": Any(("left", "bilateral"))},
    ),
    (
        "history",
        "IMPRESSION: Progression of the left frontal glioblastoma.\nFINDINGS: Enhancing mass in the left frontal lobe with "
        "central necrosis.\nHISTORY: weakness of the right arm.",
        {"side": "left", "lobes": ["frontal"], "enhancement": "present", "necrosis": True},
    ),
    (
        "history",
        "Clinical information: right-sided hemiparesis, headache. Findings: large mass in the left parietal lobe.",
        {"side": "left", "lobes": ["parietal"]},
    ),
    (
        "history",
        "Patient with left arm weakness. There is a mass in the right frontal lobe.",
        {"side": "right", "lobes": ["frontal"]},
    ),
    # Sides.
    ("side", "RT PARIETAL MASS WITH EDEMA.", {"side": "right", "lobes": ["parietal"], "oedema": True}),
    ("side", "Lt. occipital glioma.", {"side": "left", "lobes": ["occipital"]}),
    ("side", "Mass, L temporal, 3 cm.", {"side": "left", "lobes": ["temporal"]}),
    ("side", "(R) insular tumour.", {"side": "right", "lobes": ["insular"]}),
    ("side", "L>R bifrontal butterfly lesion.", {"side": "bilateral", "lobes": ["frontal"]}),
    ("side", "Bifrontal mass involving the genu of the corpus callosum.", {"side": "bilateral", "lobes": ["frontal"]}),
    ("side", "Biparietal infiltrating glioma.", {"side": "bilateral", "lobes": ["parietal"]}),
    (
        "side",
        "The right hemisphere shows no abnormality. Left temporal lesion.",
        {"side": "left", "lobes": ["temporal"]},
    ),
    (
        "side",
        "No abnormal enhancement on the left. Mass in the right frontal lobe.",
        {"side": "right", "lobes": ["frontal"]},
    ),
    ("side", "Laterality: right. Lobe: temporal.", {"side": "right", "lobes": ["temporal"]}),
    ("side", "Side: L. Location: frontal.", {"side": "left", "lobes": ["frontal"]}),
    (
        "side",
        "Nothing is left of the former tumour; new mass in the right occipital lobe.",
        {"side": "right", "lobes": ["occipital"]},
    ),
    (
        "side",
        "The left lateral ventricle is effaced by the adjacent mass of the left frontal lobe, shift to the right 8 mm.",
        {"side": "left", "lobes": ["frontal"], "mass_effect": True},
    ),
    ("side", "Right-handed patient. Mass of the left temporal lobe.", {"side": "left", "lobes": ["temporal"]}),
    (
        "side",
        "The tumour extends from the left frontal lobe across the corpus callosum into the right frontal lobe.",
        {"side": "bilateral", "lobes": ["frontal"]},
    ),
    ("side", "Right frontal mass, L1 MRI protocol, R2 relaxation not measured.", {"side": "right"}),
    # Incidental findings and what is not brain.
    (
        "incidental",
        "Retention cyst in the right maxillary sinus. Left temporal mass.",
        {"side": "left", "lobes": ["temporal"], "cyst": Any((None, False))},
    ),
    (
        "incidental",
        "Right mastoid effusion. Enhancing mass, left cerebellum.",
        {"side": "left", "lobes": ["cerebellum"], "enhancement": "present"},
    ),
    (
        "incidental",
        "Chronic infarct in the right occipital lobe. Tumour in the left thalamus.",
        {"side": "left", "lobes": ["deep"]},
    ),
    (
        "incidental",
        "Left frontal developmental venous anomaly. Right temporal glioma.",
        {"side": "right", "lobes": ["temporal"]},
    ),
    (
        "incidental",
        "Arachnoid cyst of the left temporal pole. Enhancing lesion in the right parietal lobe.",
        {"side": "right", "lobes": ["parietal"], "enhancement": "present"},
    ),
    (
        "incidental",
        "Small meningioma along the right frontal convexity. Left insular glioma.",
        {"side": "left", "lobes": ["insular"]},
    ),
    (
        "incidental",
        "The left vertebral artery is hypoplastic. Right cerebellar mass.",
        {"side": "right", "lobes": ["cerebellum"]},
    ),
    (
        "incidental",
        "Ethmoid and frontal sinus opacification. Lesion of the right temporal lobe.",
        {"side": "right", "lobes": ["temporal"]},
    ),
    (
        "incidental",
        "Defect of the left temporal bone. Mass in the right occipital lobe.",
        {"side": "right", "lobes": ["occipital"]},
    ),
    # Lobes.
    ("lobe", "Atrophy of the right temporalis muscle. Left frontal mass.", {"side": "left", "lobes": ["frontal"]}),
    (
        "lobe",
        "Brainstem and cerebellum are normal. Mass of the left temporal lobe.",
        {"side": "left", "lobes": ["temporal"]},
    ),
    (
        "lobe",
        "Posterior fossa: unremarkable cerebellum. Right parietal tumour.",
        {"side": "right", "lobes": ["parietal"]},
    ),
    ("lobe", "Basal ganglia and thalami: normal. Left occipital mass.", {"side": "left", "lobes": ["occipital"]}),
    ("lobe", "Lesion in the right precentral gyrus.", {"side": "right", "lobes": ["frontal"]}),
    ("lobe", "Mass in the left hippocampus and amygdala.", {"side": "left", "lobes": ["temporal"]}),
    ("lobe", "Tumour of the right cuneus.", {"side": "right", "lobes": ["occipital"]}),
    (
        "lobe",
        "The mass respects the insula and lies in the left superior temporal gyrus.",
        {"side": "left", "lobes": ["temporal"]},
    ),
    # Negation.
    ("negation", "The enhancement seen previously is no longer present.", {"enhancement": "absent"}),
    ("negation", "Enhancing nodule, unchanged.", {"enhancement": "present"}),
    ("negation", "No change in size of the enhancing mass.", {"enhancement": "present"}),
    ("negation", "Enhancement could not be evaluated because no contrast was given.", {"enhancement": None}),
    ("negation", "No new enhancing lesion.", {"enhancement": None}),
    ("negation", "There is no doubt that the mass enhances.", {"enhancement": "present"}),
    ("negation", "No haemorrhage; the centre is necrotic.", {"necrosis": True}),
    (
        "negation",
        "The mass is solid, not necrotic, and enhances avidly.",
        {"necrosis": False, "enhancement": "present"},
    ),
    (
        "negation",
        "No enhancement, necrosis, oedema or mass effect.",
        {"enhancement": "absent", "necrosis": False, "oedema": False, "mass_effect": False},
    ),
    (
        "negation",
        "Neither oedema nor necrosis; there is strong enhancement.",
        {"oedema": False, "necrosis": False, "enhancement": "present"},
    ),
    ("negation", "Without significant mass effect. Marked edema.", {"mass_effect": Any((False, None)), "oedema": True}),
    ("negation", "Absence of restricted diffusion. Ring enhancement present.", {"enhancement": "present"}),
    ("negation", "No midline shift despite extensive edema.", {"mass_effect": False, "oedema": True}),
    ("negation", "Not only the rim but also the wall of the cyst enhances.", {"enhancement": "present"}),
    ("negation", "The lesion showed no uptake of contrast material.", {"enhancement": "absent"}),
    ("negation", "Questionable enhancement, cannot be excluded.", {"enhancement": Any(("present", None))}),
    # Layout.
    (
        "layout",
        "<div>Mass in the <i>right</i> parietal lobe</div><div>Enhancement: <b>yes</b></div>",
        {"side": "right", "lobes": ["parietal"], "enhancement": "present"},
    ),
    (
        "layout",
        "Enhancement: yes\nNecrosis: no\nEdema: no\nMass effect: yes",
        {"enhancement": "present", "necrosis": False, "oedema": False, "mass_effect": True},
    ),
    (
        "layout",
        "Necrosis - none\nEdema - present\nEnhancement - absent",
        {"necrosis": False, "oedema": True, "enhancement": "absent"},
    ),
    (
        "layout",
        "Necrosis (-), edema (+), enhancement (-)",
        {"necrosis": False, "oedema": True, "enhancement": "absent"},
    ),
    ("layout", "Is there enhancement? Yes. Is there necrosis? No.", {"enhancement": "present", "necrosis": False}),
    (
        "layout",
        "FINDINGS:\r\n1) LEFT OCCIPITAL MASS\r\n2) NO EDEMA\r\n3) RING ENHANCEMENT",
        {"side": "left", "lobes": ["occipital"], "oedema": False, "enhancement": "present"},
    ),
    (
        "layout",
        "Non\u2011enhancing lesion \u2013 right fronto\u2011temporal",
        {"side": "right", "lobes": ["frontal", "temporal"], "enhancement": "absent"},
    ),
    (
        "layout",
        "*Left* **temporal** mass &amp; no&nbsp;oedema",
        {"side": "left", "lobes": ["temporal"], "oedema": False},
    ),
    (
        "layout",
        "Mass in the right\nfrontal lobe without\nsurrounding edema.",
        {"side": "right", "lobes": ["frontal"], "oedema": False},
    ),
    # Languages: read, or not understood.
    (
        "language",
        "Ringf\u00f6rmig anreichernde Raumforderung rechts temporal mit ausgedehntem \u00d6dem.",
        {"side": RIGHT_OR_NOT, "enhancement": PRESENT_OR_NOT, "oedema": YES_OR_NOT},
    ),
    (
        "language",
        "Keine Kontrastmittelanreicherung. Tumor im linken Okzipitallappen.",
        {"side": LEFT_OR_NOT, "enhancement": ABSENT_OR_NOT},
    ),
    ("language", "Linkshirniger Tumor ohne Nekrose.", {"side": LEFT_OR_NOT, "necrosis": NO_OR_NOT}),
    (
        "language",
        "Masa frontal derecha con realce anular y edema perilesional.",
        {"side": RIGHT_OR_NOT, "enhancement": PRESENT_OR_NOT, "oedema": YES_OR_NOT},
    ),
    (
        "language",
        "Lesi\u00f3n temporal izquierda sin realce tras contraste, sin necrosis.",
        {"side": LEFT_OR_NOT, "enhancement": ABSENT_OR_NOT, "necrosis": NO_OR_NOT},
    ),
    (
        "language",
        "Processus expansif frontal gauche sans prise de contraste.",
        {"side": LEFT_OR_NOT, "enhancement": ABSENT_OR_NOT},
    ),
    (
        "language",
        "L\u00e9sion pari\u00e9tale droite avec prise de contraste annulaire et \u0153d\u00e8me.",
        {"side": RIGHT_OR_NOT, "enhancement": PRESENT_OR_NOT, "oedema": YES_OR_NOT},
    ),
    (
        "language",
        "Lesione espansiva parietale sinistra con enhancement ad anello.",
        {"side": LEFT_OR_NOT, "enhancement": PRESENT_OR_NOT},
    ),
    (
        "language",
        "Lesione occipitale destra senza impregnazione contrastografica.",
        {"side": RIGHT_OR_NOT, "enhancement": ABSENT_OR_NOT},
    ),
    (
        "language",
        "Les\u00e3o frontal direita com realce anelar e edema.",
        {"side": RIGHT_OR_NOT, "enhancement": PRESENT_OR_NOT, "oedema": YES_OR_NOT},
    ),
    ("language", "Les\u00e3o temporal esquerda sem realce.", {"side": LEFT_OR_NOT, "enhancement": ABSENT_OR_NOT}),
    (
        "language",
        "Guz w lewym p\u0142acie czo\u0142owym, bez wzmocnienia.",
        {"side": LEFT_OR_NOT, "enhancement": ABSENT_OR_NOT},
    ),
]
