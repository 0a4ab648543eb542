"""How a report defines what was measured: (quantity, definition, source, why)."""

from __future__ import annotations

OWN_EXPLANATION = (
    "a(x), a function of model, image and class, with c the predicted class, fixed on the clean "
    "image. {formula}A map takes {price} of the model. {attacked}"
)
CHOSEN = "The method that was chosen for this audit."
OWN = "The explanation that was brought to this audit."
DIFFERENTIABLE = "Attacks follow its derivative."
NOT_DIFFERENTIABLE = (
    "It cannot be differentiated: it is attacked by random search, by differences of maps and by "
    "transfer from the gradient. These attacks are weaker, so the figures say less."
)
RANDOM_EXPLANATION = (
    "It draws random numbers, seeded for each image and draw: two maps of one image differ, also "
    "without smoothing."
)
OWN_SMOOTHED = (
    "a_σ(x) = E a(x + z), z ~ N(0, σ²I), estimated with n draws by Latin hypercube: each pixel "
    "takes one value from each n-th of the distribution. Noise is not clipped."
)

METHODS = (
    (
        "Simple gradient",
        "a(x) = ∇f_c(x), the gradient of the logit of the predicted class c with respect to the "
        "pixels. c is fixed on the clean image.",
        "Simonyan et al. 2014 (arXiv 1312.6034)",
        "The plainest explanation, and the one that most others are built from.",
    ),
    (
        "SmoothGrad",
        "a_σ(x) = E ∇f_c(x + z), z ~ N(0, σ²I), estimated with n draws by Latin hypercube: each "
        "pixel takes one value from each n-th of the distribution. Noise is not clipped.",
        "Smilkov et al. 2017 (arXiv 1706.03825); McKay et al. 1979",
        "The smoothing that this audit judges; stratified draws have a smaller error.",
    ),
    (
        "Map error",
        "‖a − b‖ / (√2 ‖(a + b)/2‖) for two smoothed maps with independent noise: the standard "
        "error of one of them by its norm.",
        "",
        "How much of a smoothed map is left to chance.",
    ),
    (
        "Magnitude",
        "m = Σ over channels of |a|; all top-k figures, correlation and center use it. ℓ₂ and "
        "cosine use the signed map.",
        "",
        "One value per pixel, as people see it.",
    ),
    (
        "Top-k overlap",
        "|K(a) ∩ K(b)| / k with K the k largest magnitudes; chance level k/(H·W). "
        "IoU = |K(a) ∩ K(b)| / |K(a) ∪ K(b)|. Mass = Σ of b over K(a) / Σ of b.",
        "Ghorbani et al. 2019 (arXiv 1710.10547)",
        "What a reader of the map would notice.",
    ),
    (
        "Spearman correlation",
        "Rank correlation over pixels, ties averaged.",
        "Spearman 1904",
        "Order of all pixels, not only the top.",
    ),
    (
        "Center shift",
        "‖C(a) − C(b)‖₂ in pixels, C = Σ (row, column)·m / Σ m, not rounded.",
        "Ghorbani et al. 2019 (arXiv 1710.10547)",
        "Whether the explanation points elsewhere.",
    ),
    (
        "SSIM",
        "Gaussian weights (1.5 pixels), on magnitudes clipped at their 99th percentile and scaled "
        "to [0, 1].",
        "Wang et al. 2004, IEEE TIP 13(4)",
        "Similarity as seen; it flatters sparse maps.",
    ),
    (
        "Distances",
        "ℓ₂ = ‖a − b‖₂; relative ℓ₂ divides by ‖a‖₂; cosine = 1 − ⟨a, b⟩ / (‖a‖₂ ‖b‖₂).",
        "",
        "Scale and direction of the signed map.",
    ),
    (
        "Top-k search",
        "Minimizes the overlap by pushing pixels across the k-th magnitude, ‖δ‖∞ ≤ ε, class kept. "
        "Steps follow differences of true maps, (a(x + hv) − a(x)) / h, v the derivative of the "
        "objective by the map; a second search goes on from the best point, smaller ε included.",
        "After Ghorbani et al. 2019; adaptive as asked for by Tramèr et al. 2020 "
        "(arXiv 2002.08347)",
        "Upper bound on what is left of the map.",
    ),
    (
        "Mass center, manipulation",
        "The same search, with half the budget, for other aims: to move the map's center of mass, "
        "and to make the map like that of the next image of the audit (cosine).",
        "Ghorbani et al. 2019; Dombrowski et al. 2019 (arXiv 1906.07983)",
        "Whether an attacker can choose where the explanation points.",
    ),
    (
        "Strongest of all",
        "For each image the lowest top-k overlap over all searches, what was found for the "
        "unsmoothed map, and what was found at a smaller ε. It is what criteria are judged by.",
        "After Croce and Hein 2020 (arXiv 2003.01690)",
        "An explanation is as stable as its worst case.",
    ),
    (
        "Control rows",
        "Random signs: noise of the same size without any search. Transfer: the "
        "perturbation made for the unsmoothed map, applied to the smoothed one; for an unsmoothed "
        "map that is not the gradient, the one made for the gradient.",
        "",
        "Without them an attack figure says little.",
    ),
    (
        "Stability error",
        "E over images of ‖a_σ of the model − a_σ of its twin‖₂; normalized: divided by the mean "
        "map norm at that σ.",
        "Ye and Farnia 2024 (arXiv 2411.05837)",
        "What a second training would change.",
    ),
    (
        "Fidelity error",
        "E over images of ‖a_σ − a_0‖₂; normalized: divided by the mean map norm at that σ.",
        "Ye and Farnia 2024 (arXiv 2411.05837)",
        "What smoothing changes in the map.",
    ),
    (
        "Infidelity",
        "E_I (α IᵀΦ − (f_c(x) − f_c(x − I)))², 1,000 perturbations I of an image: noise in its "
        "place, or a square of it removed; α = 1, or the best one.",
        "Yeh et al. 2019 (arXiv 1901.09392)",
        "Whether a map says what the model does.",
    ),
    (
        "ROAD",
        "Mean drop of p_c while 5% to 95% of the pixels are imputed from their neighbors, in the "
        "order of the map.",
        "Rong et al. 2022 (arXiv 2202.00449)",
        "Faithfulness without leaving the data.",
    ),
    (
        "Sensitivity, relative stability",
        "max ‖Φ(y) − Φ(x)‖ / ‖Φ(x)‖, ‖y − x‖∞ ≤ .1; RIS, ROS, RRS: relative change of the map over "
        "that of image, logits, representation, noise ±.05, same prediction.",
        "Yeh et al. 2019; Agarwal et al. 2022 (arXiv 2203.06877)",
        "How a map moves when nobody attacks.",
    ),
    (
        "Gini index",
        "1 − 2 Σ a₍ₖ₎ (d − k + ½) / (d ‖a‖₁), a₍ₖ₎ the magnitudes in ascending order.",
        "Chalasani et al. 2020 (arXiv 1810.06583)",
        "How few pixels carry the map.",
    ),
    (
        "Re-initialized control",
        "The same comparison against the same network with fresh random weights.",
        "Adebayo et al. 2018 (arXiv 1810.03292)",
        "A map that stays similar to it explains nothing.",
    ),
    (
        "Curvature",
        "Largest eigenvalue of W (diag p − ppᵀ) Wᵀ, W = Jacobian of the logits: the input Hessian "
        "of the cross-entropy loss of a ReLU network.",
        "Wang et al. 2020 (arXiv 2006.06643)",
        "How fast the gradient of the loss can turn.",
    ),
    (
        "Intervals",
        "Bootstrap over images, percentiles widened for small n; below 6 images Student's "
        "interval. The choice of σ is repeated on each resample, a criterion's limit keeping its "
        "distance to the mean.",
        "Efron and Tibshirani 1993",
        "How far the figures depend on these images.",
    ),
)

QUALITY = {
    "gini": ("Gini index of the magnitude", "higher"),
    "infd_scaled_noisy_baseline": ("Infidelity, noisy baseline, best scale", "lower"),
    "infd_scaled_squares": ("Infidelity, squares, best scale", "lower"),
    "infd_noisy_baseline": ("Infidelity, noisy baseline", "lower"),
    "infd_squares": ("Infidelity, squares", "lower"),
    "sens_max": ("Sensitivity, 50 draws", "lower"),
    "sens_max_unit": ("Sensitivity at unit norm, 50 draws", "lower"),
    "sens_attack": ("Sensitivity, by attack", "lower"),
    "log10_ris": ("Relative input stability, log₁₀", "lower"),
    "log10_ros": ("Relative output stability, log₁₀", "lower"),
    "log10_rrs": ("Relative representation stability, log₁₀", "lower"),
    "road_morf": ("ROAD, most relevant first", "higher"),
    "road_lerf": ("ROAD, least relevant first", "lower"),
    "road_random": ("ROAD of a random map", "baseline"),
    "ssim_noise_0.02": ("SSIM under noise of .02", "higher"),
    "ssim_noise_0.05": ("SSIM under noise of .05", "higher"),
    "ssim_noise_0.1": ("SSIM under noise of .1", "higher"),
    "ssim_noise_0.2": ("SSIM under noise of .2", "higher"),
}
"""Metric → its title, and whether higher or lower is better."""

TERMS = (
    ("Explanation, map", "One value for each pixel: how much it matters to the decision.", "", ""),
    ("σ", "Strength of the noise that smoothing averages over; 0 is no smoothing.", "0 and up", ""),
    ("n (draws)", "Noisy copies of an image that one smoothed map is the mean of.", "1 and up", ""),
    ("ε", "Largest change of any pixel that an attack may make, in 1/255.", "0 to 255", ""),
    (
        "Top-k overlap",
        "Share of the k most important pixels that two maps share.",
        "0 to 1",
        "higher",
    ),
    ("Top-k IoU", "The shared ones among all pixels that either map marks.", "0 to 1", "higher"),
    (
        "Top-k mass",
        "Share of the second map that lies on the first one's top k.",
        "0 to 1",
        "higher",
    ),
    ("Chance", "The overlap of two maps that have nothing to do with each other.", "0 to 1", ""),
    ("Spearman", "Agreement of the order of all pixels; 0 is none.", "−1 to 1", "higher"),
    ("Center shift", "How far the center of the map's weight moves.", "0 and up, pixels", "lower"),
    ("SSIM", "Similarity of two maps as pictures.", "−1 to 1", "higher"),
    ("Cosine distance", "0 is the same direction, 1 unrelated, 2 opposite.", "0 to 2", "lower"),
    (
        "ℓ₂, relative ℓ₂",
        "Length of the difference of two maps, as it is and by the first's length.",
        "0 and up",
        "lower",
    ),
    (
        "Self-overlap, floor",
        "Overlap of two smoothed maps of one image with different noise: what no "
        "attack has to do with.",
        "0 to 1",
        "higher",
    ),
    (
        "Label kept",
        "Share of noisy copies that are still given the same class.",
        "0 to 1",
        "higher",
    ),
    ("Map error", "Standard error of a smoothed map by its length.", "0 and up", "lower"),
    ("Norm ratio", "Length of the smoothed map by that of the unsmoothed.", "0 and up", ""),
    ("Fidelity error", "Distance of the smoothed from the unsmoothed map.", "0 and up", "lower"),
    (
        "Stability error",
        "Distance of the map from that of a model trained anew.",
        "0 and up",
        "lower",
    ),
    ("Twin", "The same task learned anew: other data, seed, recipe or network.", "", ""),
    ("Control", "The same network with random weights, which has learned nothing.", "", ""),
    (
        "Screening, confirming half",
        "The images on which σ was chosen, and those on which the choice was checked.",
        "",
        "",
    ),
    (
        "Gate",
        "A condition that comes before the criteria: without it a map is no evidence.",
        "",
        "",
    ),
    ("Criterion", "A limit of the purpose's profile, set before anything was measured.", "", ""),
    ("Pareto front", "The σ that no other one beats in every respect.", "", ""),
    ("Confidence interval", "Where the mean over images like these is expected to lie.", "", ""),
    (
        "Bootstrap",
        "The same computation on images drawn anew from those audited, many times.",
        "",
        "",
    ),
)
"""Term, its meaning in plain words, its range, and whether higher or lower is better."""
