// Compartments in a row: exchange between neighbours, saturable elimination from the last; solved by ode_rk45.
functions {
  vector slope(real t, vector x, vector forward, vector back, real vmax, real km) {
    int size = num_elements(x);
    vector[size] flow;
    flow[1 : (size - 1)] = forward .* x[1 : (size - 1)] - back .* x[2 : size];
    flow[size] = vmax * x[size] / (km + x[size]);
    return append_row(0, flow[1 : (size - 1)]) - flow;
  }
}
data {
  int<lower=1> n;
  int<lower=2> size;
  array[n] real times;
  array[n] vector[size] x;
  real<lower=0> noise_scale;
  real rtol;
  real atol;
}
parameters {
  vector<lower=0>[size - 1] forward;
  vector<lower=0>[size - 1] back;
  real<lower=0> vmax;
  real<lower=0> km;
  real<offset=100, multiplier=5> x1_initial;
  real<lower=0> x12_scale;
}
model {
  vector[size] initial = append_row(x1_initial, rep_vector(0, size - 1));
  array[n] vector[size] predicted = ode_rk45_tol(slope, initial, 0.0, times, rtol, atol, 100000,
                                                 forward, back, vmax, km);
  forward ~ lognormal(0, 0.5);
  back ~ lognormal(log(0.4), 0.5);
  vmax ~ lognormal(log(10), 0.5);
  km ~ lognormal(log(10), 0.5);
  x1_initial ~ normal(100, 5);
  x12_scale ~ normal(0, 1);
  for (i in 1 : n) {
    x[i, 1 : (size - 1)] ~ normal(predicted[i, 1 : (size - 1)], noise_scale);
    x[i, size] ~ normal(predicted[i, size], x12_scale);
  }
}
