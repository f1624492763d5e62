//! Other programs' word for what ours made.
