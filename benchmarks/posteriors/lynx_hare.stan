// Lotka–Volterra with multiplicative noise, as in Stan's case study; solved by ode_rk45.
functions {
  vector slope(real t, vector x, real alpha, real beta, real gamma, real delta) {
    return [(alpha - beta * x[2]) * x[1], (-gamma + delta * x[1]) * x[2]]';
  }
}
data {
  int<lower=2> n;
  array[n] real times; // the first is 0, where the initial states hold
  array[n] real<lower=0> hare;
  array[n] real<lower=0> lynx;
  real rtol;
  real atol;
}
parameters {
  real<lower=0> alpha;
  real<lower=0> beta;
  real<lower=0> gamma;
  real<lower=0> delta;
  real<lower=0> hare_initial;
  real<lower=0> lynx_initial;
  real<lower=0> hare_scale;
  real<lower=0> lynx_scale;
}
model {
  vector[2] initial = [hare_initial, lynx_initial]';
  array[n - 1] vector[2] x = ode_rk45_tol(slope, initial, 0.0, times[2 : n], rtol, atol, 100000,
                                          alpha, beta, gamma, delta);
  alpha ~ normal(1, 0.5);
  gamma ~ normal(1, 0.5);
  beta ~ normal(0.05, 0.05);
  delta ~ normal(0.05, 0.05);
  hare_initial ~ lognormal(log(10), 1);
  lynx_initial ~ lognormal(log(10), 1);
  hare_scale ~ lognormal(-1, 1);
  lynx_scale ~ lognormal(-1, 1);
  hare[1] ~ lognormal(log(hare_initial), hare_scale);
  lynx[1] ~ lognormal(log(lynx_initial), lynx_scale);
  hare[2 : n] ~ lognormal(log(x[ : , 1]), hare_scale);
  lynx[2 : n] ~ lognormal(log(x[ : , 2]), lynx_scale);
}
