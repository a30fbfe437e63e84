// A heated room. ode_rk45 is called for each interval between two samples: the heating jumps at samples, and one call
// over all of them would find every jump by rejected steps. Resistances and capacities are in units of their priors.
functions {
  vector slope(real t, vector x, vector rate, real start, real width, vector outdoor, real heating) {
    real outside = outdoor[1] + (outdoor[2] - outdoor[1]) * (t - start) / width;
    return [rate[1] * (outside - x[1]) + rate[2] * (x[2] - x[1]), rate[3] * (x[1] - x[2]) + rate[4] * heating]';
  }
}
data {
  int<lower=2> n;
  array[n] real times;
  vector[n] outdoor;
  vector[n] heating;
  int m;
  array[m] int seen; // samples that have an indoor temperature
  vector[m] indoor;
  real rtol;
  real atol;
}
parameters {
  real<offset=-4, multiplier=1> log_R_out;
  real<offset=-6, multiplier=1> log_R_in;
  real<offset=16, multiplier=1> log_C_env;
  real<offset=14, multiplier=1> log_C_in;
  real<offset=25, multiplier=7> envelope_initial;
  real<offset=27, multiplier=1> indoor_initial;
  real<lower=0> indoor_scale;
}
model {
  vector[n] predicted;
  vector[4] rate = exp(-[log_R_out + log_C_env, log_R_in + log_C_env, log_R_in + log_C_in, log_C_in]');
  vector[2] x = [envelope_initial, indoor_initial]';
  predicted[1] = x[2];
  for (i in 2 : n) {
    x = ode_rk45_tol(slope, x, times[i - 1], times[i : i], rtol, atol, 100000, rate, times[i - 1],
                     times[i] - times[i - 1], outdoor[(i - 1) : i], heating[i - 1])[1];
    predicted[i] = x[2];
  }
  log_R_out ~ normal(-4, 1);
  log_R_in ~ normal(-6, 1);
  log_C_env ~ normal(16, 1);
  log_C_in ~ normal(14, 1);
  envelope_initial ~ normal(25, 7);
  indoor_initial ~ normal(27, 1);
  indoor_scale ~ normal(0, 0.5);
  indoor ~ normal(predicted[seen], indoor_scale);
}
generated quantities {
  real R_out = exp(log_R_out);
  real R_in = exp(log_R_in);
  real C_env = exp(log_C_env);
  real C_in = exp(log_C_in);
}
