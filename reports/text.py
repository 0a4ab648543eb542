"""The report's fixed words, in plain English."""

from __future__ import annotations

from reports.definitions import QUALITY

TITLE = "Audit of explanations"

METHODS_READING = (
    "Each method was audited by itself, on the same images in the same halves. This report is of "
    "the pair of method and σ with the best objective on the screening half, of {pairs} pairs "
    "(bold). It alone was judged on the confirmation half for the verdict, and no other takes its "
    "place. Objectives are on the screening half; gradients are for one explanation. The runs of "
    "the other methods are in the folder methods."
)

VERDICTS = {
    "recommended": "Recommended: σ = {sigma}",
    "no_sigma": "No σ can be recommended",
    "inconclusive": "Inconclusive",
    "provisional": "Provisional, without attack or twin: σ = {sigma}",
}

METRICS = {
    "topk_intersection": "Top-k overlap",
    "topk_mass": "Top-k mass",
    "topk_iou": "Top-k IoU",
    "spearman": "Spearman",
    "center_shift": "Center shift (pixels)",
    "cosine_distance": "Cosine distance",
    "ssim": "SSIM",
    "l2": "ℓ₂ (map units)",
    "relative_l2": "Relative ℓ₂",
    "topk_intersection_common": "Top-k overlap, same noise",
    "self_overlap": "Self-overlap",
    "label_kept": "Label kept under noise",
    "map_error": "Map error",
    "norm_ratio": "Norm ratio",
    "stability_error": "Stability error (map units)",
    "normalized_stability_error": "Stability error, normalized",
    "fidelity_error": "Fidelity error (map units)",
    "normalized_fidelity_error": "Fidelity error, normalized",
    "agreement": "Agreement",
    "auc_over_eps": "Area over ε",
    "target_cosine": "Cosine to the target map",
    "variance": "Variance over members (map units²)",
    "accuracy": "Accuracy",
    "hessian_eigenvalue": "Largest Hessian eigenvalue",
    "hessian_residual": "Residual of the eigenvalue",
    "loss_gradient_drift": "Drift of the loss gradient",
    "rho": "Length of the perturbation",
    "ris": "Relative input stability",
    "ros": "Relative output stability",
    "rrs": "Relative representation stability",
    "rinfd_noisy_baseline": "Robust infidelity, noisy baseline",
    "rinfd_squares": "Robust infidelity, squares",
    "rinfd_bound_noisy_baseline": "Bound of robust infidelity, noisy baseline",
    "rinfd_bound_squares": "Bound of robust infidelity, squares",
    **{name: title for name, (title, _) in QUALITY.items()},
}
"""Name of a measured quantity → its title in tables, charts and criteria."""

ATTACKS = {
    "random_signs": "random signs",
    "transfer": "transfer",
    "mass_center": "mass center",
    "manipulation": "manipulation",
    "topk": "top-k search",
    "strongest": "strongest of all",
    "strongest_doubled": "strongest, twice the budget",
}

SUBGROUPS = (
    "The same attack and the same σ, for each subgroup of the images by itself. Where a subgroup "
    "has few images its interval is wide: two subgroups differ only if their intervals are clearly "
    "apart, and with many subgroups some will be so by chance. σ was chosen for all of them "
    "together. Small type: confidence interval over images, and how many of them count."
)

GLOSSARY = (
    "σ is the strength of the noise that smoothing averages over, as a standard deviation of "
    "pixels in [0, 1]; σ = 0 is the unsmoothed explanation. Overlap is the share of an "
    "explanation's most important pixels (the top k) that are still there afterwards."
)

HOW_TO_READ_CHART = (
    "Left: higher is better. Right: lower is better. Whiskers are the {confidence} confidence "
    "intervals over images. The floor is the overlap of two smoothed maps of one untouched image "
    "that differ in nothing but their random noise: what an attack leaves is to be judged against "
    "it, and against chance."
)

DECLARED = (
    "The criteria, the objective and the rule of choice were fixed in a profile whose hash and "
    "time were stored before anything was measured. Candidates for σ were screened on one half of "
    "the images; the chosen one was checked on the other half."
)

THREAT_MODEL = (
    "What the attacker wants: an image that looks the same to the model (its predicted class does "
    "not change) but has a different explanation.",
    "What the attacker may do: change every pixel by at most ε/255 (the ℓ∞ norm), "
    "staying within [0, 1]. {epsilons}",
    "What the attacker knows: the whole model with its weights, its normalization, the attribution "
    "method, σ and the number of noise draws; not the draws themselves. Attacks on a smoothed map "
    "are adaptive: they aim at the smoothed map and are scored with noise that they never saw.",
    "What is out of scope: perturbations of other kinds (rotation, patches, larger changes), "
    "poisoned training data, a manipulated model, and attacks on the prediction itself.",
    "An image counts only if it is classified correctly at the start (where labels are "
    "known) and the attack found a perturbation that keeps the predicted class; all others are "
    "counted as excluded, never averaged in as robust.",
)

QUALITY_READING = (
    "A map can be stable and still be a poor explanation. Infidelity asks whether it foretells "
    "what a perturbation does to the score, at the scale that suits the map best; ROAD whether "
    "imputing marked pixels takes the class away sooner than imputing random ones; sensitivity "
    "and relative stability how much the map moves under random perturbations; the Gini index how "
    "concentrated it is. Measured on a sample of the images. RIS, ROS, RRS and sensitivity are the "
    "largest of 50 draws and would grow with more."
)
QUALITY_GROUPS = ("RRS", "SSIM under noise")

NOT_RUN = {
    "quality": "The quality of the maps was not measured.",
    "attack": "Not run: this audit has no attack results.",
    "gallery": "Not available: this result carries no pictures (maps.npz).",
    "smoothing": "Not run: this audit has no results on smoothing.",
    "twin": "Not run: no twin was given. Without one this audit says nothing on how far the "
    "explanations depend on the randomness of training.",
    "control": "Not run: this audit has no re-initialized control.",
    "bounds": "Not run: this audit has no bounds, for it tried no smoothing or no image counts.",
    "curvature": "Not run: this audit has no results on curvature.",
    "snippet": "No σ is recommended, so no code for a smoothed map is given.",
}

NATURAL = {
    "jpeg_75": "JPEG, quality 75",
    "jpeg_50": "JPEG, quality 50",
    "resize": "half size and back",
    "brighter": "brightness +10%",
    "darker": "brightness −10%",
    "shift": "shift by one pixel",
}

NATURAL_READING = (
    "What everyday changes of a picture do to its explanation, with noise of their own on smoothed "
    "maps: the measure of what an attack adds. After a shift the map is moved back, so that only "
    "what does not follow the picture counts. Images whose prediction changes are excluded."
)

MANIPULATION_READING = (
    "Cosine between the moved map and the map of the next image of the audit, at which the attack "
    "aimed; 1 would be that map itself."
)

TRANSFER_READING = (
    "Top-k overlap at ε = {epsilon}/255 of the map in the column, under the perturbation that was "
    "found for the map in the row, on {images} images. Off the diagonal the attacker did not know "
    "the smoothing: such figures flatter a map."
)

ATTACK_READING = (
    "Each row shows how much of the top k is left, as a mean over images. An attack is only as "
    "strong as its search: on these images the worst case can be lower than the strongest row, and "
    "but for the noise of the smoothed maps not higher. Random signs are the "
    "control; the floor is the self-overlap of two smoothed maps of the untouched image; "
    "“same noise” compares maps before and after that share their noise draws."
)

GALLERY_READING = (
    "First the images whose unsmoothed maps moved most, then some in the middle. Maps "
    "before and after share the color scale below them, in map units (white is zero; the darkest "
    "blue is the 99th percentile of both maps, larger values are clipped). Scales differ because "
    "smoothed maps are smaller."
)

SMOOTHING_READING = (
    "Smoothed against unsmoothed maps of the same, untouched images. Label kept is the share of "
    "noisy copies that the model still assigns to the same class: where it is low, the smoothed "
    "map explains another decision. The map error is the standard error of a map of {samples} "
    "draws, by its norm, from two maps with independent noise: what more draws would remove. The "
    "norm ratio shows how far the map shrinks."
)

TWIN_READING = (
    "A twin is the same kind of model trained anew. A small error that goes with a small map norm "
    "is not stability: therefore each error is also given divided by the mean norm of the maps at "
    "that σ."
)

CONTROL_READING = (
    "The same network with fresh random weights has learned nothing. Where the maps of the model "
    "are as similar to its maps as to those of a twin, they do not show what was learned."
)

BOUNDS_READING = (
    "An attack shows how bad it can get at least, a certificate how bad it cannot get: the truth "
    "lies between. Both are about one map, the expected sparsified one: how often a pixel is among "
    "the strongest when noise of σ is added. Certified: no perturbation of ℓ₂ length ρ leaves less "
    "overlap. Attacked: the largest overlap that the noise draws allow for what the attack found, "
    "so that sampling cannot cross the two. Each pair holds with 95% confidence for its image. It "
    "says nothing of other kinds of maps."
)

DIRECTION_READING = (
    "Magnitude of the unit change of the image along which the logit's gradient turns fastest, "
    "found by Lanczos on the model with smoothed ramps. Attacks start along it, too."
)

OTHER_BOUNDS_READING = (
    "Upper bounds cannot be exceeded where their assumptions hold; estimates hold to first order "
    "only. Vacuous: beyond twice the longest map measured, which is true of any pair of maps. For "
    "deep networks most bounds from layer norms are vacuous, often by many powers of ten."
)

CURVATURE_REMARKS = (
    "It concerns the gradient of the loss, never the map of a logit; the two are not comparable "
    "and share no axis here.",
    "It is first order: for a small perturbation δ the loss gradient turns by about ‖H·δ‖, at most "
    "λ·‖δ‖. It is an estimate, not a certificate; across the kinks of a ReLU network not even "
    "that bound holds.",
    "It is close to zero for confident predictions whatever the explanation does, so a small "
    "value is no evidence of a stable map.",
    "For models with many classes the value comes from Lanczos; the residual bounds its error.",
)

DECISION_READING = (
    "Every σ first has to pass the gates; then the profile's criteria; among those left, the "
    "objective decides. A σ is off the Pareto front, and never recommended, where another one "
    "is at least as good in attack drift, fidelity and stability, and better in one of them."
)

COMPARISON_READING = (
    "Differences are after − before, on the {images} that count in both, with intervals that hold "
    "for all rows together at {confidence}. Better and worse are said only where the interval "
    "leaves out zero."
)

FRONT_READING = (
    "Filled: on the Pareto front, which takes stability against retraining into account as well; "
    "circled: the σ in question. The best corner is at the lower right."
)

LIMITATIONS = (
    "Attacks give upper bounds on robustness. A stronger attack may leave less of an explanation "
    "than is reported here; none of these figures is a guarantee.",
    "The figures hold for the audited images and others drawn in the same way, for this "
    "model file, this attribution method and this number of noise draws. They do not carry over to "
    "other data, methods or retrained models.",
    "Confidence intervals cover the choice of images only; not the choice of attack, of twin or of "
    "the random seed.",
    "Stability under attack is not correctness: a map can be stable and still not show what the "
    "model uses. The fidelity error compares with the unsmoothed map, which is no ground truth.",
    "A comparison with few twins samples few of the ways in which training can vary.",
    "The curvature figures concern the gradient of the loss, and are estimates of first order.",
    "Smoothed maps are random: two runs differ as shown by the self-overlap floor.",
)

CLAUSES_LEAD = (
    "The sections named are evidence towards the clauses below. This report does not "
    "state conformity with any of them; that judgment needs the whole system and its use."
)

CLAUSES = (
    (
        "Regulation (EU) 2024/1689 (AI Act), Annex IV, 2(g)",
        "Validation and testing procedures, metrics for robustness, test logs signed",
        "Methods; Attack results; The choice of σ; Sign-off",
    ),
    (
        "AI Act, Article 13(3)(b)",
        "Characteristics, capabilities and limitations of performance; information to explain "
        "outputs",
        "Verdict; Effect of smoothing; Limitations",
    ),
    (
        "AI Act, Article 15",
        "Accuracy, robustness and cybersecurity; adversarial examples",
        "Threat model; Attack results; Curvature",
    ),
    (
        "NIST AI RMF 1.0, MEASURE 2.1",
        "Test sets, metrics and tools are documented",
        "Scope and identity; Methods; Parameters; Reproduction",
    ),
    (
        "NIST AI RMF 1.0, MEASURE 2.7",
        "Security and resilience are evaluated and documented",
        "Threat model; Attack results",
    ),
    (
        "NIST AI RMF 1.0, MEASURE 2.9",
        "The model is explained and its output interpreted within its context",
        "Effect of smoothing; Comparison with twins; The choice of σ",
    ),
    (
        "ISO/IEC TR 24029-1",
        "Assessment of the robustness of neural networks: statistical and empirical methods",
        "Attack results; Curvature; Limitations",
    ),
    (
        "ISO/IEC 42001, A.6.2.4",
        "Verification and validation of AI systems: criteria and records",
        "Criteria declared before the results; The choice of σ; Reproduction",
    ),
)

PROVISIONAL_SNIPPET = (
    "The σ of this report is provisional: audit with --effort standard before you use it."
)

OWN_SNIPPET_LEAD = (
    "This makes the map that was audited. The model takes pixels in [0, 1]; noise is added before "
    "anything else happens to them, is not clipped, and is stratified over the n draws, as audited."
)

METHOD_SNIPPET_LEAD = (
    "This makes the map that was audited, with the auditor's own method: "
    "smoothed_map(explain, model, x, target). model takes pixels in [0, 1] and returns logits, so "
    "normalization has to happen inside it. The noise is stratified over the n draws, as audited."
)

UNKNOWN_UNITS = "not known: own preprocessing instead of mean and std"

SNIPPET_LEAD = (
    "The map that was audited, with captum. model takes pixels in [0, 1] and returns logits, so "
    "normalization has to happen inside it. For a picture of one value per pixel, sum the absolute "
    "values over the channels: smoothed_map(model, x, target).abs().sum(1). The noise is "
    "stratified over the n draws, as audited; captum's own NoiseTunnel would need more of them."
)

SIGN_OFF = (
    "The signatures confirm that the report was read and that its verdict and limitations were "
    "understood. Without them this is a machine-made draft."
)

APPENDIX_READING = (
    "The worst come first, line by line. Class is the predicted one; H the half, S the screening "
    "and C the confirming one. Columns: {letters}. “–” stands for an image that is excluded from a "
    "figure, is in neither half or was not measured."
)

ATTACHMENT = (
    "The machine-readable results (audit.json) are attached to this PDF file and hold every value "
    "per image behind every figure; so does the attached table images.csv, a row for each image."
)
