"""From stored curves to γ*: R and ρ, the surrogate, the posterior per scale and at the target."""
