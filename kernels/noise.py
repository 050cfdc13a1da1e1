"""What backends share to make float32 normal numbers of random words, to a relative error below 4e-7 at any word.

Minimax polynomials, relative error below 3e-8, highest power first:
    LOG : -2 log(1 + t) / t for t in [-1/2, 0);  SIN, COS : sin(pi y / 4) / y and cos(pi y / 4) in powers of y^2 up to 1
"""

LOG = (-2.8315661, -3.2837084, -2.4208071, -0.36321753, -0.5276627, 0.48733327, -0.66726595, 0.9999904, -2.0)
SIN = (-3.6609152e-05, 2.4910164e-03, -8.0745831e-02, 0.78539819)
COS = (3.4900593e-06, -3.2586305e-04, 1.5854282e-02, -0.30842513, 1.0)
LOG_4 = 1.3862944
