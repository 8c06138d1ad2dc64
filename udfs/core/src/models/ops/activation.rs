//! Element-wise activations whose derivative is a function of their result.

use super::real::Real;

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// max(x, 0); the derivative at 0 is 0, as in PyTorch.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
}

impl Activation {
    /// Applies it in place.
    #[inline(always)]
    pub(super) fn apply<T: Real>(self, values: &mut [T]) {
        match self {
            Self::Identity => {}
            Self::Relu => values.iter_mut().for_each(|value| *value = value.larger(T::ZERO)),
            Self::Tanh => values.iter_mut().for_each(|value| *value = Real::tanh(*value)),
            Self::Sigmoid => values.iter_mut().for_each(|value| *value = value.sigmoid()),
        }
    }

    /// The gradient before the activation, from the gradient after it and its result.
    #[inline(always)]
    pub(super) fn backward<T: Real>(self, gradient: T, result: T) -> T {
        match self {
            Self::Identity => gradient,
            Self::Relu => {
                if result > T::ZERO {
                    gradient
                } else {
                    T::ZERO
                }
            }
            Self::Tanh => gradient * (T::ONE - result * result),
            Self::Sigmoid => gradient * result * (T::ONE - result),
        }
    }
}
