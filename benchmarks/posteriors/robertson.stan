// Robertson's kinetics with ode_bdf, Stan's solver for stiff systems; rates are in units of their priors.
functions {
  vector slope(real t, vector x, vector k) {
    real first = k[1] * x[1];
    real second = k[2] * square(x[2]);
    real third = k[3] * x[2] * x[3];
    return [third - first, first - second - third, second]';
  }
}
data {
  int<lower=1> n;
  array[n] real times;
  array[n] real A;
  array[n] real B_magnified;
  array[n] real C;
  real rtol;
  real atol;
}
transformed data {
  vector[3] centre = log([0.05, 2e7, 2e4]');
  vector[3] initial = [1, 0, 0]';
}
parameters {
  vector<offset=centre, multiplier=0.7>[3] log_k;
  real<lower=0> A_scale;
  real<lower=0> B_magnified_scale;
  real<lower=0> C_scale;
}
model {
  array[n] vector[3] x = ode_bdf_tol(slope, initial, 0.0, times, rtol, atol, 100000, exp(log_k));
  log_k ~ normal(centre, 0.7);
  A_scale ~ normal(0, 0.05);
  B_magnified_scale ~ normal(0, 0.05);
  C_scale ~ normal(0, 0.05);
  A ~ normal(x[ : , 1], A_scale);
  B_magnified ~ normal(1e4 * to_vector(x[ : , 2]), B_magnified_scale);
  C ~ normal(x[ : , 3], C_scale);
}
generated quantities {
  vector[3] k = exp(log_k);
}
